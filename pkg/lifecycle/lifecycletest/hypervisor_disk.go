// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"context"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// fakeDisk is a disk of a machine that runs.
type fakeDisk struct {
	vm.MachineDisk

	// asked: the guest is to let go of it.
	asked bool
}

// disksOf are the disks of a machine that is made of m.
func disksOf(m vm.Machine) []fakeDisk {
	var live []fakeDisk
	for i, d := range m.Disks {
		if d.Target == "" {
			d.Target = vm.DataTarget(d.Bus, i-2) // the root disk and the seed
		}
		live = append(live, fakeDisk{MachineDisk: d})
	}
	return live
}

// UseDisks has the fake find the sizes of disks in another one. Without it they have none, until they are resized.
func (h *Hypervisor) UseDisks(d *Disks) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.files, h.disks = d, d
}

// HoldDisks says whether guests keep the disks that they are asked for. What they were asked for meanwhile they let go of
// when they hold none any more.
func (h *Hypervisor) HoldDisks(hold bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.holdDisks = hold
	if hold {
		return
	}
	for id, d := range h.domains {
		h.letGo(id, d)
	}
}

// LimitPorts bounds the disks that machines can have while they run.
func (h *Hypervisor) LimitPorts(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.diskPorts = n
}

// AttachDisk implements lifecycle.Hypervisor.
func (h *Hypervisor) AttachDisk(ctx context.Context, id string, disk vm.MachineDisk) error {
	return h.callDomain(ctx, "AttachDisk", id, func(d *fakeDomain) error {
		at := func(m vm.MachineDisk) bool { return m.Target == disk.Target }
		if d.state.Active() {
			i := slices.IndexFunc(d.live, func(m fakeDisk) bool { return at(m.MachineDisk) })
			switch {
			case i >= 0 && d.live[i].Path != disk.Path:
				return fmt.Errorf("the machine of sandbox %s has another disk at %s: %w", id, disk.Target, errdefs.ErrAlreadyExists)
			case i < 0 && h.diskPorts > 0 && len(d.live) >= h.diskPorts:
				return fmt.Errorf("the machine of sandbox %s has no free port: %w", id, errdefs.ErrResourceExhausted)
			case i < 0 && h.locked(disk) != nil:
				return fmt.Errorf("AttachDisk: domain of sandbox %s: %w", id, h.locked(disk))
			case i < 0:
				d.live = append(d.live, fakeDisk{MachineDisk: disk})
			}
		}
		if !slices.ContainsFunc(d.machine.Disks, at) {
			d.machine.Disks = append(slices.Clone(d.machine.Disks), disk)
		}
		return nil
	})
}

// UnplugDisk implements lifecycle.Hypervisor. The guest lets go at once, unless HoldDisks was called or it is paused.
func (h *Hypervisor) UnplugDisk(ctx context.Context, id, target string) error {
	return h.callDomain(ctx, "UnplugDisk", id, func(d *fakeDomain) error {
		if !d.state.Active() {
			return refused(id, "it is not active")
		}
		for i := range d.live {
			if d.live[i].Target == target {
				d.live[i].asked = true
			}
		}
		if !h.holdDisks && d.state == vm.DomainRunning {
			h.letGo(id, d)
		}
		return nil
	})
}

func (h *Hypervisor) letGo(id string, d *fakeDomain) {
	d.live = slices.DeleteFunc(d.live, func(disk fakeDisk) bool {
		if disk.asked {
			h.emit(id, vm.EventDeviceRemoved, disk.Target)
		}
		return disk.asked
	})
}

// ForgetDisk implements lifecycle.Hypervisor.
func (h *Hypervisor) ForgetDisk(ctx context.Context, id, target string) error {
	return h.callDomain(ctx, "ForgetDisk", id, func(d *fakeDomain) error {
		d.machine.Disks = slices.DeleteFunc(slices.Clone(d.machine.Disks), func(m vm.MachineDisk) bool { return m.Target == target })
		return nil
	})
}

// ResizeDisk implements lifecycle.Hypervisor.
func (h *Hypervisor) ResizeDisk(ctx context.Context, id, target string, size int64) error {
	return h.callDomain(ctx, "ResizeDisk", id, func(d *fakeDomain) error {
		if !d.state.Active() {
			return refused(id, "it is not active")
		}
		for _, disk := range d.live {
			if disk.Target == target {
				h.sizes[disk.Path] = size
				if h.files != nil {
					h.files.resize(disk.Path, size)
				}
			}
		}
		return nil
	})
}

// LiveDisks implements lifecycle.Hypervisor.
func (h *Hypervisor) LiveDisks(ctx context.Context, id string) ([]vm.LiveDisk, error) {
	var out []vm.LiveDisk
	err := h.callDomain(ctx, "LiveDisks", id, func(d *fakeDomain) error {
		if !d.state.Active() {
			return refused(id, "it is not active")
		}
		for _, disk := range d.live {
			size := h.sizes[disk.Path]
			if h.files != nil {
				size = max(size, h.files.sizeOf(disk.Path))
			}
			out = append(out, vm.LiveDisk{Target: disk.Target, Path: disk.Path, Size: size})
		}
		return nil
	})
	return out, err
}
