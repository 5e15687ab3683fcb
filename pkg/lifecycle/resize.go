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

// vcpus are what the limits would give a guest, 0 if they leave that open.
func (l limited) vcpus(ask vm.Overrides) int64 {
	return vcpusOf(l.sandbox, l.container, ask, Defaults{})
}

// resize is a change of limits under a VM that is made already.
type resize struct {
	// is has limits that the VM runs with.
	is    []limited
	next  limited
	size  vm.MachineSize
	ask   vm.Overrides
	accel vm.Accel
}

// judge returns the size that the limits ask for. It refuses those that the machine cannot have while it runs:
// FailedPrecondition, with what is possible. A guest that is sized by annotation keeps its size whatever the limits are.
func (r resize) judge() (vm.MachineSize, error) {
	to := r.size
	var err error
	if to.Memory, err = r.judgeMemory(); err != nil {
		return r.size, err
	}
	to.VCPUs, err = r.judgeCPU()
	return to, err
}

func (r resize) judgeMemory() (int64, error) {
	same := func(l limited) bool { return l.memory() == r.next.memory() }
	if slices.ContainsFunc(r.is, func(l limited) bool { return same(l) && overheadOf(l.sandbox) == overheadOf(r.next.sandbox) }) {
		return r.size.Memory, nil
	}
	room := roomOf(r.next.sandbox, r.next.container, r.accel)
	if !slices.ContainsFunc(r.is, same) && r.ask.Memory == 0 {
		if r.size.MaxMemory > 0 && room.limited {
			return r.memoryIn(room)
		}
		return 0, fmt.Errorf("the guest's memory of %d MiB follows from the limit and cannot change while it runs, as a limit of %d MiB would need; "+
			"keep the limit, or make the pod anew (one with the annotation %s can change it, one with %s may have any limit that has room for that): %w",
			r.size.Memory/vm.MiB, r.next.memory()/vm.MiB, annotations.MemoryMax, annotations.Memory, errdefs.ErrFailedPrecondition)
	}
	if room.limited && room.bytes < r.size.Memory {
		return 0, fmt.Errorf("the guest has %d MiB of memory, and there would only be room for %d MiB: %s: %w",
			r.size.Memory/vm.MiB, max(room.bytes, 0)/vm.MiB, room.why, errdefs.ErrFailedPrecondition)
	}
	return r.size.Memory, nil
}

// memoryIn is the memory of a guest with headroom that a limit has room for.
func (r resize) memoryIn(room room) (int64, error) {
	memory := wholeBlocks(r.size, room.bytes)
	if err := withinHeadroom(r.size, memory); err != nil {
		return 0, fmt.Errorf("a memory limit of %d MiB has room for a guest of %d MiB (%s): %w", r.next.memory()/vm.MiB, max(room.bytes, 0)/vm.MiB, room.why, err)
	}
	return memory, nil
}

// wholeBlocks rounds memory down to what a machine can be given.
func wholeBlocks(size vm.MachineSize, memory int64) int64 {
	if size.MaxMemory == 0 {
		return memory
	}
	return memory - ((memory-size.BootMemory)%vm.MemoryBlock+vm.MemoryBlock)%vm.MemoryBlock
}

// withinHeadroom is FailedPrecondition, with what is possible, for memory that a machine cannot have while it runs.
func withinHeadroom(size vm.MachineSize, memory int64) error {
	switch {
	case size.MaxMemory == 0:
		return fmt.Errorf("the guest has %d MiB and was made without headroom for more or less: give the pod the annotation %s and make it anew: %w",
			size.Memory/vm.MiB, annotations.MemoryMax, errdefs.ErrFailedPrecondition)
	case memory < size.BootMemory || memory > size.MaxMemory:
		return fmt.Errorf("the guest can have from %d MiB, which it has booted with, to %d MiB while it runs: %w",
			size.BootMemory/vm.MiB, size.MaxMemory/vm.MiB, errdefs.ErrFailedPrecondition)
	}
	return nil
}

func (r resize) judgeCPU() (int, error) {
	need := r.next.vcpus(r.ask)
	same := func(l limited) bool { return l.vcpus(r.ask) == need }
	if need <= int64(r.size.VCPUs) || slices.ContainsFunc(r.is, same) {
		return r.size.VCPUs, nil
	}
	if most := max(r.size.VCPUs, r.size.MaxVCPUs); need > int64(most) {
		return 0, fmt.Errorf("the guest has %d CPUs and cannot have %d while it runs, as the CPU limit would need; "+
			"a limit of up to %d CPUs is possible, for more make the pod anew: %w", r.size.VCPUs, need, most, errdefs.ErrFailedPrecondition)
	}
	return int(need), nil
}
