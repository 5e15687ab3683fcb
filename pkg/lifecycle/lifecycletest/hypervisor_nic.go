// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// DefineNICs implements lifecycle.Hypervisor.
func (h *Hypervisor) DefineNICs(ctx context.Context, id string, nics []vm.NIC) error {
	return h.callDomain(ctx, "DefineNICs", id, func(d *fakeDomain) error {
		if !d.state.Active() {
			d.machine.NICs = slices.Clone(nics)
		}
		return nil
	})
}

// PlugNIC implements lifecycle.Hypervisor.
func (h *Hypervisor) PlugNIC(ctx context.Context, id string, nic vm.NIC) error {
	return h.callDomain(ctx, "PlugNIC", id, func(d *fakeDomain) error {
		if !d.state.Active() {
			return refused(id, "it is not active")
		}
		if _, there := d.nics[nic.Tap]; there {
			return nil
		}
		if len(d.nics) >= h.ports {
			return fmt.Errorf("domain of sandbox %s has no port: %w", id, errdefs.ErrResourceExhausted)
		}
		nic.Down = true
		d.nics[nic.Tap] = nic
		return nil
	})
}

// UnplugNIC implements lifecycle.Hypervisor. A guest that runs lets go at once unless HoldNICs was called.
func (h *Hypervisor) UnplugNIC(ctx context.Context, id string, nic vm.NIC) error {
	for {
		gone := true
		var released chan struct{}
		again := time.NewTimer(time.Second) // a guest that is resumed
		err := h.call(ctx, "UnplugNIC", id, func() error {
			released = h.released
			d, ok := h.domains[id]
			if !ok || !d.state.Active() {
				return nil
			}
			if _, there := d.nics[nic.Tap]; there && (h.holdNICs || d.state != vm.DomainRunning) {
				gone = false
			} else if there {
				h.letGoOfNIC(id, d, nic.Tap)
			}
			return nil
		})
		if gone || err != nil {
			return err
		}
		select {
		case <-released:
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("UnplugNIC: the guest does not let go: %w", context.DeadlineExceeded)
		}
	}
}

// HasNIC implements lifecycle.Hypervisor.
func (h *Hypervisor) HasNIC(ctx context.Context, id string, nic vm.NIC) (has bool, err error) {
	err = h.call(ctx, "HasNIC", id, func() error {
		if d, ok := h.domains[id]; ok && d.state.Active() {
			_, has = d.nics[nic.Tap]
		}
		return nil
	})
	return has, err
}

// SetLink implements lifecycle.Hypervisor.
func (h *Hypervisor) SetLink(ctx context.Context, id string, nic vm.NIC) error {
	return h.callDomain(ctx, "SetLink", id, func(d *fakeDomain) error {
		if !d.state.Active() {
			return refused(id, "it is not active")
		}
		there, ok := d.nics[nic.Tap]
		if !ok {
			return fmt.Errorf("domain of sandbox %s has no NIC %s: %w", id, nic.Name, errdefs.ErrNotFound)
		}
		there.Down = nic.Down
		d.nics[nic.Tap] = there
		return nil
	})
}

func (h *Hypervisor) letGoOfNIC(id string, d *fakeDomain, tap string) {
	delete(d.nics, tap)
	h.emit(id, vm.EventNICRemoved, tap)
}

// HoldNICs says whether guests keep NICs that they are asked to let go of.
func (h *Hypervisor) HoldNICs(hold bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.holdNICs = hold
	if !hold {
		close(h.released)
		h.released = make(chan struct{})
	}
}

// ReleaseNIC has the guest let go of a NIC, as one does that was asked before.
func (h *Hypervisor) ReleaseNIC(id, tap string) {
	h.withActive(id, func(d *fakeDomain) { h.letGoOfNIC(id, d, tap) })
}

// LimitNICPorts lets machines have no more than n NICs plugged.
func (h *Hypervisor) LimitNICPorts(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ports = n
}

// NICs are those of the running machine, by tap; nil for a domain that is not active.
func (h *Hypervisor) NICs(id string) map[string]vm.NIC {
	h.mu.Lock()
	defer h.mu.Unlock()
	if d, ok := h.domains[id]; ok && d.state.Active() {
		return maps.Clone(d.nics)
	}
	return nil
}
