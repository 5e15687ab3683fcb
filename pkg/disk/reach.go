// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"

	"github.com/containerd/errdefs"
)

// reachable refuses what QEMU's user cannot open: libvirt is told to leave the owners of callers' files alone, since it
// would change them for good. test(1) is run as that user: modes, access lists and groups all have their say.
func (d *Disks) reachable(ctx context.Context, path string, readOnly bool) error {
	args, want := []string{"-r", path, "-a", "-w", path}, "read and write"
	if readOnly {
		args, want = args[:2], "read"
	}
	cmd := exec.CommandContext(ctx, "test", args...)
	cmd.Dir = "/"
	cmd.WaitDelay = killDelay
	if d.owner.uid != os.Getuid() {
		groups, err := d.owner.groups()
		if err != nil {
			return err
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(d.owner.uid), Gid: uint32(d.owner.gid), Groups: groups}}
	}
	err := cmd.Run()
	if _, no := errors.AsType[*exec.ExitError](err); no && ctx.Err() == nil {
		return fmt.Errorf("QEMU's user %s cannot %s it; let it: setfacl -m u:%s:%s %s, and x on the folders above: %w",
			d.who(), want, d.who(), map[bool]string{true: "r", false: "rw"}[readOnly], path, errdefs.ErrFailedPrecondition)
	}
	if err != nil {
		return fmt.Errorf("ask whether QEMU's user can %s it: %w", want, err)
	}
	return nil
}

// who is QEMU's user as people call it.
func (d *Disks) who() string {
	if d.user != "" {
		return d.user
	}
	return strconv.Itoa(d.owner.uid)
}

// groups are those that QEMU's user is in besides its own: libvirt gives them to QEMU.
func (o owner) groups() ([]uint32, error) {
	u, err := user.LookupId(strconv.Itoa(o.uid))
	if _, unknown := errors.AsType[user.UnknownUserIdError](err); unknown {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("groups of QEMU's user: %w", err)
	}
	ids, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("groups of QEMU's user: %w", err)
	}
	var groups []uint32
	for _, id := range ids {
		if n, err := strconv.ParseUint(id, 10, 32); err == nil {
			groups = append(groups, uint32(n))
		}
	}
	return groups, nil
}
