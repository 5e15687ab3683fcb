// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"fmt"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/annotations"
	"github.com/vmlet/vmlet/pkg/vm"
)

// limited is a pod with its container, for the limits that they have.
type limited struct {
	sandbox   vm.SandboxSpec
	container vm.ContainerSpec
}

func (l limited) memory() int64 {
	return limitOf(l.sandbox, l.container, func(r *vm.Resources) int64 { return r.MemoryLimit })
}

func (l limited) overhead() int64 { return valueOr(l.sandbox.Overhead).MemoryLimit }

// vcpus are what the limits would give a guest, 0 if they leave that open.
func (l limited) vcpus(ask vm.Overrides) int64 {
	return vcpusOf(l.sandbox, l.container, ask, Defaults{})
}

// resize is a change of limits under a VM that is made already: its size stays.
type resize struct {
	// is has limits that the VM runs with.
	is    []limited
	next  limited
	size  vm.MachineSize
	ask   vm.Overrides
	accel vm.Accel
}

// judge refuses limits that would need another size: FailedPrecondition, with what is
// possible. A guest that is sized by annotation keeps its size whatever the limits are.
func (r resize) judge() error {
	if err := r.judgeMemory(); err != nil {
		return err
	}
	return r.judgeCPU()
}

func (r resize) judgeMemory() error {
	same := func(l limited) bool { return l.memory() == r.next.memory() }
	if slices.ContainsFunc(r.is, func(l limited) bool { return same(l) && l.overhead() == r.next.overhead() }) {
		return nil
	}
	if !slices.ContainsFunc(r.is, same) && r.ask.Memory == 0 {
		return fmt.Errorf("the guest's memory of %d MiB follows from the limit and cannot change while it runs, as a limit of %d MiB would need; "+
			"keep the limit, or make the pod anew (one with the annotation %s may have any limit that has room for that): %w",
			r.size.Memory/vm.MiB, r.next.memory()/vm.MiB, annotations.Memory, errdefs.ErrFailedPrecondition)
	}
	if room := roomOf(r.next.sandbox, r.next.container, r.accel); room.limited && room.bytes < r.size.Memory {
		return fmt.Errorf("the guest has %d MiB of memory, and there would only be room for %d MiB: %s: %w",
			r.size.Memory/vm.MiB, max(room.bytes, 0)/vm.MiB, room.why, errdefs.ErrFailedPrecondition)
	}
	return nil
}

func (r resize) judgeCPU() error {
	need := r.next.vcpus(r.ask)
	same := func(l limited) bool { return l.vcpus(r.ask) == need }
	if need <= int64(r.size.VCPUs) || slices.ContainsFunc(r.is, same) {
		return nil
	}
	return fmt.Errorf("the guest has %[1]d CPUs and cannot have %[2]d while it runs, as the CPU limit would need; "+
		"a limit of up to %[1]d CPUs is possible, for more make the pod anew: %[3]w", r.size.VCPUs, need, errdefs.ErrFailedPrecondition)
}
