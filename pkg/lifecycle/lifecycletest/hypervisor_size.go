// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"context"

	"github.com/vmlet/vmlet/pkg/vm"
)

// memoryBounds are what guests have plugged at the least and, unless it is 0, at the most, whatever they are told.
type memoryBounds struct{ least, most int64 }

// bootSize is the size of a machine that is made of m. Its guest takes what it is told to once its CPUs run.
func bootSize(m vm.Machine) vm.LiveSize {
	size := vm.LiveSize{VCPUs: m.CPU.Count}
	if m.MaxMemory > 0 {
		size.Requested = m.Memory - m.BootMemory
	}
	return size
}

func (b memoryBounds) of(requested int64) int64 {
	plugged := max(requested, b.least)
	if b.most > 0 {
		plugged = min(plugged, b.most)
	}
	return plugged
}

// BoundMemory has guests keep least bytes plugged, and take no more than most, 0 for all that they are told. It counts from now
// on: guests follow what they were told before.
func (h *Hypervisor) BoundMemory(least, most int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.bounds = memoryBounds{least, most}
	for id, d := range h.domains {
		if d.state == vm.DomainRunning {
			h.follow(id, d)
		}
	}
}

// follow has a guest whose CPUs run take or give back memory as it was told.
func (h *Hypervisor) follow(id string, d *fakeDomain) {
	if d.machine.MaxMemory == 0 {
		return
	}
	if now := h.bounds.of(d.size.Requested); now != d.size.Plugged {
		d.size.Plugged = now
		h.emit(id, vm.EventMemorySize, "")
	}
}

// LiveSize implements lifecycle.Hypervisor.
func (h *Hypervisor) LiveSize(ctx context.Context, id string) (size vm.LiveSize, err error) {
	err = h.callDomain(ctx, "LiveSize", id, func(d *fakeDomain) error {
		if !d.state.Active() {
			return refused(id, "it is not active")
		}
		size = d.size
		return nil
	})
	return size, err
}

// AddVCPUs implements lifecycle.Hypervisor.
func (h *Hypervisor) AddVCPUs(ctx context.Context, id string, count int) (size vm.LiveSize, err error) {
	err = h.callDomain(ctx, "AddVCPUs", id, func(d *fakeDomain) error {
		switch {
		case !d.state.Active():
			return refused(id, "it is not active")
		case d.size.VCPUs >= count:
		case count > d.machine.CPU.Max:
			return refused(id, "it has no places for so many CPUs")
		default:
			d.size.VCPUs, d.machine.CPU.Count = count, count
		}
		size = d.size
		return nil
	})
	return size, err
}

// RequestMemory implements lifecycle.Hypervisor.
func (h *Hypervisor) RequestMemory(ctx context.Context, id string, plugged int64) error {
	return h.callDomain(ctx, "RequestMemory", id, func(d *fakeDomain) error {
		if !d.state.Active() || !fitsMemory(d.machine, plugged) {
			return refused(id, "it is not active, or has no headroom for it")
		}
		d.size.Requested = plugged
		if d.state == vm.DomainRunning {
			h.follow(id, d)
		}
		return nil
	})
}

func fitsMemory(m vm.Machine, plugged int64) bool {
	return plugged >= 0 && plugged <= m.MaxMemory-m.BootMemory && plugged%vm.MemoryBlock == 0
}

// DefineSize implements lifecycle.Hypervisor.
func (h *Hypervisor) DefineSize(ctx context.Context, id string, vcpus int, plugged int64) error {
	return h.callDomain(ctx, "DefineSize", id, func(d *fakeDomain) error {
		if vcpus > max(d.machine.CPU.Count, d.machine.CPU.Max) || !fitsMemory(d.machine, plugged) && plugged != 0 {
			return refused(id, "it has no places for that")
		}
		d.machine.CPU.Max = max(d.machine.CPU.Count, d.machine.CPU.Max)
		d.machine.CPU.Count = vcpus
		if d.machine.MaxMemory > 0 {
			d.machine.Memory = d.machine.BootMemory + plugged
		}
		return nil
	})
}
