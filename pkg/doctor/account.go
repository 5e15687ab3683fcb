// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"slices"
	"strconv"
	"syscall"
)

// account is whom QEMU runs as, with all its groups: libvirt gives QEMU those of its user.
type account struct {
	uid    uint32
	groups []uint32
}

// qemuAccount finds QEMU's account, whose user and group are names or numbers; "" stands
// for our own.
func (d *Doctor) qemuAccount() (account, error) {
	a := account{uid: uint32(os.Getuid()), groups: []uint32{uint32(os.Getgid())}}
	var err error
	if name := d.Config.QEMU.Group; name != "" {
		if a.groups[0], err = number(name, groupNumber); err != nil {
			return account{}, fmt.Errorf("QEMU's group: %w", err)
		}
	}
	if name := d.Config.QEMU.User; name != "" {
		if a.uid, err = number(name, userNumber); err != nil {
			return account{}, fmt.Errorf("QEMU's user: %w", err)
		}
	}
	u, err := user.LookupId(strconv.FormatUint(uint64(a.uid), 10))
	if err != nil {
		return a, nil //nolint:nilerr // a number without a name has no further groups
	}
	ids, err := u.GroupIds()
	if err != nil {
		return account{}, fmt.Errorf("the groups of QEMU's user: %w", err)
	}
	for _, id := range ids {
		if gid, err := strconv.ParseUint(id, 10, 32); err == nil {
			a.groups = append(a.groups, uint32(gid))
		}
	}
	return a, nil
}

// number is s itself if it is one, else what find makes of it.
func number(s string, find func(string) (string, error)) (uint32, error) {
	if _, err := strconv.ParseUint(s, 10, 32); err != nil {
		if s, err = find(s); err != nil {
			return 0, err
		}
	}
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err
}

func userNumber(name string) (string, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return "", err
	}
	return u.Uid, nil
}

func groupNumber(name string) (string, error) {
	g, err := user.LookupGroup(name)
	if err != nil {
		return "", err
	}
	return g.Gid, nil
}

// may reports whether the account has all of these rights (4 read, 2 write, 1 pass) on a
// file, by its mode alone: as owner, else as member of its group, else as anybody.
func (a account) may(rights fs.FileMode, info fs.FileInfo) bool {
	mode := info.Mode().Perm()
	st, isUnix := info.Sys().(*syscall.Stat_t)
	switch {
	case isUnix && st.Uid == a.uid:
		rights <<= 6
	case isUnix && slices.Contains(a.groups, st.Gid):
		rights <<= 3
	}
	return mode&rights == rights
}
