// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"slices"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

func (t *hypervisorTrial) disk(target string) vm.MachineDisk {
	return vm.MachineDisk{
		Path: t.host.RawDisk(t.T), Format: vm.FormatRaw, Bus: vm.BusVirtio, ErrorPolicy: "report", Serial: "s-" + target, Target: target,
	}
}

// disks checks which disks the running machine has.
func (t *hypervisorTrial) disks(want ...vm.MachineDisk) {
	t.Helper()
	live, err := t.h.LiveDisks(t.Context(), t.id)
	t.must(err)
	var have, wanted []string
	for _, d := range live {
		have = append(have, d.Target+" "+d.Path)
	}
	for _, d := range want {
		wanted = append(wanted, d.Target+" "+d.Path)
	}
	if !slices.Equal(have, wanted) {
		t.Errorf("the machine has %q, want %q", have, wanted)
	}
}

// aDefinedDisk: what is attached to an inactive domain is in its next machine.
func aDefinedDisk(t *hypervisorTrial) {
	t.must(t.h.Define(t.Context(), t.machine()))
	stays, goes := t.disk("vdc"), t.disk("vdd")
	for _, d := range []vm.MachineDisk{stays, goes, goes} {
		t.must(t.h.AttachDisk(t.Context(), t.id, d))
	}
	_, err := t.h.LiveDisks(t.Context(), t.id)
	t.refused("LiveDisks", err, errdefs.ErrFailedPrecondition)
	t.refused("UnplugDisk", t.h.UnplugDisk(t.Context(), t.id, "vdc"), errdefs.ErrFailedPrecondition)
	t.refused("ResizeDisk", t.h.ResizeDisk(t.Context(), t.id, "vdc", vm.GiB), errdefs.ErrFailedPrecondition)
	for range 2 {
		t.must(t.h.ForgetDisk(t.Context(), t.id, "vdd"))
	}
	t.must(t.h.Start(t.Context(), t.id))
	t.disks(stays)
}

// aPluggedDisk: what a running machine gets it has at once and in its next boot. A reset grants what the guest, which here
// is only firmware, was asked for.
func aPluggedDisk(t *hypervisorTrial) {
	t.begin()
	t.disks()
	disk := t.disk("vdc")
	for range 2 {
		t.must(t.h.AttachDisk(t.Context(), t.id, disk))
	}
	t.disks(disk)
	other := t.disk("vdc")
	if other.Path != disk.Path {
		t.refused("AttachDisk", t.h.AttachDisk(t.Context(), t.id, other), errdefs.ErrAlreadyExists)
	}
	t.must(t.h.ResizeDisk(t.Context(), t.id, "vdc", 3*vm.MiB))
	live, err := t.h.LiveDisks(t.Context(), t.id)
	t.must(err)
	if len(live) != 1 || live[0].Size != 3*vm.MiB {
		t.Errorf("resized: %+v", live)
	}
	t.must(t.h.UnplugDisk(t.Context(), t.id, "vdx"))
	for range 2 {
		t.must(t.h.UnplugDisk(t.Context(), t.id, "vdc")) // its CPUs are halted: it stays
	}
	t.disks(disk)
	t.run()
	t.must(t.h.Reset(t.Context(), t.id))
	t.until(vm.EventDeviceRemoved)
	t.disks()
	t.must(t.h.Destroy(t.Context(), t.id))
	t.until(vm.EventStopped)
	t.must(t.h.Start(t.Context(), t.id))
	t.disks(disk) // nobody has forgotten it
}

func noDomainForDisks(t *hypervisorTrial) {
	t.refused("AttachDisk", t.h.AttachDisk(t.Context(), t.id, t.disk("vdc")), errdefs.ErrNotFound)
	t.refused("UnplugDisk", t.h.UnplugDisk(t.Context(), t.id, "vdc"), errdefs.ErrNotFound)
	t.refused("ForgetDisk", t.h.ForgetDisk(t.Context(), t.id, "vdc"), errdefs.ErrNotFound)
	t.refused("ResizeDisk", t.h.ResizeDisk(t.Context(), t.id, "vdc", vm.GiB), errdefs.ErrNotFound)
	_, err := t.h.LiveDisks(t.Context(), t.id)
	t.refused("LiveDisks", err, errdefs.ErrNotFound)
}
