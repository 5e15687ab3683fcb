// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"context"

	"github.com/vmlet/vmlet/pkg/vm"
)

// HelperPIDs implements lifecycle.Hypervisor: a machine with a share has one, QEMU's PID
// and one.
func (h *Hypervisor) HelperPIDs(ctx context.Context, id string) ([]int, error) {
	var pids []int
	err := h.callDomain(ctx, "HelperPIDs", id, func(d *fakeDomain) error {
		if !d.state.Active() {
			return refused(id, "it is not active")
		}
		if d.machine.Share != "" && !d.lost && !d.shareAway {
			pids = []int{d.pid + 1}
		}
		return nil
	})
	return pids, err
}

// ReplugShare implements lifecycle.Hypervisor. The guest lets go at once.
func (h *Hypervisor) ReplugShare(ctx context.Context, id string) error {
	return h.callDomain(ctx, "ReplugShare", id, func(d *fakeDomain) error {
		if !d.state.Active() || d.machine.Share == "" {
			return refused(id, "it is not active or has no share")
		}
		d.lost, d.shareAway = false, false
		return nil
	})
}

// UnplugShare implements lifecycle.Hypervisor. The guest lets go at once.
func (h *Hypervisor) UnplugShare(ctx context.Context, id string) error {
	return h.callDomain(ctx, "UnplugShare", id, func(d *fakeDomain) error {
		switch {
		case !d.state.Active() || d.machine.Share == "":
			return refused(id, "it is not active or has no share")
		case !d.shareAway:
			d.shareAway = true
			h.emit(id, vm.EventShareLost, "virtiofsd ended")
		}
		return nil
	})
}

// HasShare tells whether the running machine has the device of a share, and something that serves it.
func (h *Hypervisor) HasShare(id string) (has bool) {
	h.withActive(id, func(d *fakeDomain) { has = d.machine.Share != "" && !d.lost && !d.shareAway })
	return has
}

// LoseShare kills the process of the share.
func (h *Hypervisor) LoseShare(id string) {
	h.withActive(id, func(d *fakeDomain) {
		d.lost = true
		h.emit(id, vm.EventShareLost, "virtiofsd ended")
	})
}
