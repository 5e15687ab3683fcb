// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/vmlet/vmlet/pkg/vm"
)

// path places an absolute path under the root that is examined.
func (d *Doctor) path(p string) string { return filepath.Join(d.Root, p) }

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
	qemu, err := d.qemuAccount()
	if err != nil {
		return warn(fmt.Sprintf("who may open %s is not known: %v", dev, err), "see qemu-user")
	}
	if !qemu.may(0o6, info) {
		return warn(fmt.Sprintf("%s exists, but %s:%s cannot open it (mode %04o%s): no KVM, and libvirt probes QEMU anew at every start, which costs seconds",
			dev, d.Config.QEMU.User, d.Config.QEMU.Group, info.Mode().Perm(), ownerOf(info)),
			fmt.Sprintf("chown root:%s %s && chmod 0660 %s (udev does so on most hosts)", d.Config.QEMU.Group, dev, dev))
	}
	return ok("%s:%s may open %s", d.Config.QEMU.User, d.Config.QEMU.Group, dev)
}

func ownerOf(info fs.FileInfo) string {
	if st, isUnix := info.Sys().(*syscall.Stat_t); isUnix {
		return fmt.Sprintf(", owner %d:%d", st.Uid, st.Gid)
	}
	return ""
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
