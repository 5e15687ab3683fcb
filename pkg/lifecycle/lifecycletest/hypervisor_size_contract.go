// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// roomy is a machine of 2 CPUs of 4, and of 64 MiB that can become 192.
func (t *hypervisorTrial) roomy() vm.Machine {
	m := t.machine()
	m.CPU.Count, m.CPU.Max = 2, 4
	m.Memory, m.BootMemory, m.MaxMemory = 64*vm.MiB, 64*vm.MiB, 192*vm.MiB
	return m
}

func (t *hypervisorTrial) size(vcpus int, requested int64) {
	t.Helper()
	got, err := t.h.LiveSize(t.Context(), t.id)
	t.must(err)
	if got.VCPUs != vcpus || got.Requested != requested {
		t.Errorf("the machine has %+v, want %d CPUs and %d bytes requested", got, vcpus, requested)
	}
}

// addCPUs gives it CPUs, and looks at what it is said to have then.
func (t *hypervisorTrial) addCPUs(count, want int) {
	t.Helper()
	said, err := t.h.AddVCPUs(t.Context(), t.id, count)
	t.must(err)
	is, err := t.h.LiveSize(t.Context(), t.id)
	t.must(err)
	if said.VCPUs != want || said != is {
		t.Errorf("the machine is said to have %+v, and has %+v, want %d CPUs", said, is, want)
	}
}

func (t *hypervisorTrial) refusedCPUs(count int, class error) {
	t.Helper()
	_, err := t.h.AddVCPUs(t.Context(), t.id, count)
	t.refused("AddVCPUs", err, class)
}

// aSizeThatChanges: what a running machine is given it has at once, and the next one what is defined. Its CPUs are halted,
// so no guest follows.
func aSizeThatChanges(t *hypervisorTrial) {
	t.must(t.h.Define(t.Context(), t.roomy()))
	t.must(t.h.Start(t.Context(), t.id))
	t.size(2, 0)
	for range 2 {
		t.addCPUs(3, 3)
		t.must(t.h.RequestMemory(t.Context(), t.id, 64*vm.MiB))
	}
	t.size(3, 64*vm.MiB)
	t.addCPUs(1, 3) // never fewer
	t.must(t.h.RequestMemory(t.Context(), t.id, 32*vm.MiB))
	t.size(3, 32*vm.MiB)
	t.refusedCPUs(5, errdefs.ErrFailedPrecondition)
	t.refused("RequestMemory", t.h.RequestMemory(t.Context(), t.id, 256*vm.MiB), errdefs.ErrFailedPrecondition)
	for range 2 {
		t.must(t.h.DefineSize(t.Context(), t.id, 4, 128*vm.MiB))
	}
	t.size(3, 32*vm.MiB)
	t.refused("DefineSize", t.h.DefineSize(t.Context(), t.id, 5, 0), errdefs.ErrFailedPrecondition)
	t.must(t.h.Destroy(t.Context(), t.id))
	t.must(t.h.Start(t.Context(), t.id))
	t.size(4, 128*vm.MiB)
}

// aCPUThatStays: the next machine has the CPUs that this one was given.
func aCPUThatStays(t *hypervisorTrial) {
	t.must(t.h.Define(t.Context(), t.roomy()))
	t.must(t.h.Start(t.Context(), t.id))
	t.addCPUs(4, 4)
	t.must(t.h.Destroy(t.Context(), t.id))
	t.must(t.h.Start(t.Context(), t.id))
	t.size(4, 0)
}

// aSizeThatIsFixed: a machine without headroom.
func aSizeThatIsFixed(t *hypervisorTrial) {
	_, err := t.h.LiveSize(t.Context(), t.id)
	t.refused("LiveSize", err, errdefs.ErrNotFound)
	t.refusedCPUs(1, errdefs.ErrNotFound)
	t.refused("RequestMemory", t.h.RequestMemory(t.Context(), t.id, 0), errdefs.ErrNotFound)
	t.refused("DefineSize", t.h.DefineSize(t.Context(), t.id, 1, 0), errdefs.ErrNotFound)
	m := t.machine()
	t.must(t.h.Define(t.Context(), m))
	_, err = t.h.LiveSize(t.Context(), t.id)
	t.refused("LiveSize", err, errdefs.ErrFailedPrecondition)
	t.refusedCPUs(1, errdefs.ErrFailedPrecondition)
	t.refused("RequestMemory", t.h.RequestMemory(t.Context(), t.id, 0), errdefs.ErrFailedPrecondition)
	t.must(t.h.DefineSize(t.Context(), t.id, m.CPU.Count, 0))
	t.refused("DefineSize", t.h.DefineSize(t.Context(), t.id, m.CPU.Count, 2*vm.MiB), errdefs.ErrFailedPrecondition)
	t.must(t.h.Start(t.Context(), t.id))
	t.size(m.CPU.Count, 0)
	t.refusedCPUs(m.CPU.Count+1, errdefs.ErrFailedPrecondition)
	t.refused("RequestMemory", t.h.RequestMemory(t.Context(), t.id, 2*vm.MiB), errdefs.ErrFailedPrecondition)
}
