// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"fmt"
	"slices"

	"github.com/vmlet/vmlet/pkg/qemuconf"
	"github.com/vmlet/vmlet/pkg/vm"
)

func (d *Doctor) libvirt(ctx context.Context) vm.Check {
	if err := d.Libvirt.Ready(ctx); err != nil {
		return fail(fmt.Sprintf("libvirt does not answer at %s: %v", d.Config.Libvirt.URI, err),
			"start libvirtd (systemctl start libvirtd), or set libvirt.uri to where it listens")
	}
	libvirt, qemu, err := d.Libvirt.Versions(ctx)
	if err != nil {
		return fail(fmt.Sprintf("libvirt at %s has no QEMU: %v", d.Config.Libvirt.URI, err),
			"install QEMU and libvirt's QEMU driver (qemu-system-x86, libvirt-daemon-driver-qemu)")
	}
	return ok("libvirt %s with QEMU %s at %s", libvirt, qemu, d.Config.Libvirt.URI)
}

// firmware looks whether guests can boot by UEFI. All others boot by the BIOS that comes with QEMU.
func (d *Doctor) firmware(ctx context.Context) vm.Check {
	const mend = "install it (package ovmf, elsewhere edk2-ovmf) and restart libvirtd"
	found, err := d.Libvirt.Firmwares(ctx)
	switch {
	case err != nil:
		return warn(fmt.Sprintf("whether guests can boot by UEFI is not known: %v", err), "see libvirt")
	case !slices.Contains(found, string(vm.FirmwareEFI)):
		return warn("guests cannot boot by UEFI (annotation vmlet.io/firmware): libvirt finds no such firmware on this host", mend)
	}
	return ok("guests boot by BIOS, or by UEFI where their pods ask for it")
}

// qemuConf reads qemu.conf.
func (d *Doctor) qemuConf() (qemuconf.Settings, error) {
	return qemuconf.Read(d.path(d.Config.Libvirt.QEMUConf))
}

func (d *Doctor) console(context.Context) vm.Check {
	conf := d.Config.Libvirt.QEMUConf
	s, err := d.qemuConf()
	mend := fmt.Sprintf(`set stdio_handler = "file" in %s and restart libvirtd; running VMs keep their old handler until they restart`, conf)
	switch {
	case err != nil:
		return warn(err.Error(), fmt.Sprintf("set libvirt.qemuConf to the file that libvirtd reads; it must hold stdio_handler = %q", "file"))
	case !s.StdioFile:
		return warn("console logs go through virtlogd, which rotates in the middle of a line and loses some", mend)
	}
	return ok("QEMU writes console spools itself (stdio_handler = \"file\")")
}

func (d *Doctor) cgroups(context.Context) vm.Check {
	conf := d.Config.Libvirt.QEMUConf
	s, err := d.qemuConf()
	mend := fmt.Sprintf("set cgroup_controllers = [] in %s and restart libvirtd", conf)
	switch {
	case err != nil && d.Config.Cgroups != "libvirt":
		return warn(fmt.Sprintf("who owns QEMU's cgroups is not known: %v", err), "set libvirt.qemuConf to the file that libvirtd reads")
	case d.Config.Cgroups == "pod" && !s.CgroupsOff:
		return fail("cgroups is pod, but libvirt's own cgroups are on: a process cannot be in both, and the pod's limits would act on empty groups", mend)
	case d.Config.Cgroups == "libvirt" && s.CgroupsOff:
		return fail("cgroups is libvirt, but libvirt's controllers are off: no limit would be enforced", "set cgroups: auto, or let libvirt have its controllers")
	case !s.CgroupsOff:
		return warn("libvirt owns QEMU's cgroups: a pod's own group does not count its VM, so kubelet's view of the pod's usage is empty", mend)
	}
	return ok("vmlet owns QEMU's cgroups, below the pod's (driver %s)", d.Config.CgroupDriver)
}

func (d *Doctor) qemuUser(context.Context) vm.Check {
	want := d.Config.QEMU
	s, err := d.qemuConf()
	if err != nil {
		return warn(err.Error(), "set libvirt.qemuConf to the file that libvirtd reads")
	}
	if s.User != "" && s.User != want.User || s.Group != "" && s.Group != want.Group {
		return fail(fmt.Sprintf("libvirt runs QEMU as %s:%s, vmlet prepares files for %s:%s", orDefault(s.User), orDefault(s.Group), want.User, want.Group),
			"set qemu.user and qemu.group to what qemu.conf says")
	}
	if _, err := d.qemuAccount(); err != nil {
		return fail(err.Error(), "create the user and group that libvirt runs QEMU as, or set qemu.user and qemu.group")
	}
	return ok("QEMU runs as %s:%s", want.User, want.Group)
}

func orDefault(s string) string {
	if s == "" {
		return "(default)"
	}
	return s
}
