// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/vmlet/vmlet/pkg/vm"
)

// path places an absolute path under the root that is examined.
func (d *Doctor) path(p string) string { return filepath.Join(d.Root, p) }

// qemuIDs are the numbers of QEMU's user and group.
func (d *Doctor) qemuIDs() (uid, gid uint32, err error) {
	u, err := user.Lookup(d.Config.QEMU.User)
	if err != nil {
		return 0, 0, fmt.Errorf("QEMU's user: %w", err)
	}
	g, err := user.LookupGroup(d.Config.QEMU.Group)
	if err != nil {
		return 0, 0, fmt.Errorf("QEMU's group: %w", err)
	}
	uid64, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return 0, 0, fmt.Errorf("QEMU's user: %w", err)
	}
	gid64, err := strconv.ParseUint(g.Gid, 10, 32)
	if err != nil {
		return 0, 0, fmt.Errorf("QEMU's group: %w", err)
	}
	return uint32(uid64), uint32(gid64), nil
}

// kvmDevice looks at the rights on /dev/kvm, also where KVM is not used: a device that
// exists and that QEMU's user cannot open makes libvirt probe QEMU anew at every start,
// which was seen to cost 4 s each.
func (d *Doctor) kvmDevice(context.Context) vm.Check {
	const dev = "/dev/kvm"
	info, err := os.Stat(d.path(dev))
	if errors.Is(err, fs.ErrNotExist) {
		return ok("no %s: guests run under software emulation", dev)
	}
	if err != nil {
		return warn(err.Error(), "look at the rights on "+dev)
	}
	st, isUnix := info.Sys().(*syscall.Stat_t)
	uid, gid, err := d.qemuIDs()
	if !isUnix || err != nil {
		return warn(fmt.Sprintf("who may open %s is not known: %v", dev, err), "see qemu-user")
	}
	if !mayReadWrite(info.Mode().Perm(), st.Uid, st.Gid, uid, gid) {
		return warn(fmt.Sprintf("%s exists, but %s:%s cannot open it (mode %04o, owner %d:%d): no KVM, and libvirt probes QEMU anew at every start, which costs seconds",
			dev, d.Config.QEMU.User, d.Config.QEMU.Group, info.Mode().Perm(), st.Uid, st.Gid),
			fmt.Sprintf("chown root:%s %s && chmod 0660 %s (udev does so on most hosts)", d.Config.QEMU.Group, dev, dev))
	}
	return ok("%s:%s may open %s", d.Config.QEMU.User, d.Config.QEMU.Group, dev)
}

func mayReadWrite(mode fs.FileMode, ownerUID, ownerGID, uid, gid uint32) bool {
	switch {
	case uid == ownerUID:
		return mode&0o600 == 0o600
	case gid == ownerGID:
		return mode&0o060 == 0o060
	default:
		return mode&0o006 == 0o006
	}
}

func (d *Doctor) accelerator(ctx context.Context) vm.Check {
	accel, why, err := d.Libvirt.Accelerator(ctx, d.Config.Virtualization)
	if err != nil {
		return fail(err.Error(), "set virtualization: auto, or mend what it names")
	}
	if accel == vm.AccelTCG && d.Config.Virtualization == "auto" {
		return warn("guests run under software emulation, many times slower than KVM: "+why,
			"mend what it names, or set virtualization: tcg to say that it is meant")
	}
	return ok("guests run under %s", accel)
}
