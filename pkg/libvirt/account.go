// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// account is a user with its groups; the zero value is root.
type account struct {
	uid    uint32
	groups []uint32
}

// parseAccount reads libvirt's DAC label "+uid:+gid" and adds the groups that the user has
// on this host, as libvirt does for QEMU.
func parseAccount(label string) (account, error) {
	uidText, gidText, _ := strings.Cut(label, ":")
	uid, uidErr := parseID(uidText)
	gid, gidErr := parseID(gidText)
	if uidErr != nil || gidErr != nil {
		return account{}, fmt.Errorf("%q is no DAC label", label)
	}
	a := account{uid: uid, groups: []uint32{gid}}
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if _, nameless := errors.AsType[user.UnknownUserIdError](err); nameless {
		return a, nil // nor has it further groups
	}
	if err != nil {
		return a, fmt.Errorf("look up QEMU's user %d: %w", uid, err)
	}
	ids, err := u.GroupIds()
	if err != nil {
		return a, fmt.Errorf("list the groups of QEMU's user %s: %w", u.Username, err)
	}
	for _, id := range ids {
		if gid, err := parseID(id); err == nil {
			a.groups = append(a.groups, gid)
		}
	}
	return a, nil
}

func parseID(text string) (uint32, error) {
	id, err := strconv.ParseUint(strings.TrimPrefix(text, "+"), 10, 32)
	return uint32(id), err
}

// unusable says why the account cannot open a device for reading and writing, or "".
// Access control lists are not looked at.
func (a account) unusable(device string) string {
	info, err := os.Stat(device)
	if err != nil {
		return err.Error()
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "nothing tells who may open " + device
	}
	need := os.FileMode(0o006)
	switch {
	case a.uid == 0:
		return ""
	case a.uid == stat.Uid:
		need = 0o600
	case slices.Contains(a.groups, stat.Gid):
		need = 0o060
	}
	if info.Mode().Perm()&need == need {
		return ""
	}
	return fmt.Sprintf("QEMU's user %d with groups %v cannot open %s (owner %d, group %d, mode %04o)",
		a.uid, a.groups, device, stat.Uid, stat.Gid, info.Mode().Perm())
}
