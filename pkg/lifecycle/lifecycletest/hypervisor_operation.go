// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"context"
	"fmt"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// writing is memory that takes its time to be written.
type writing struct{ released, aborted chan struct{} }

// HoldSaving has the memory of a domain's next snapshots be written until release is called, or somebody aborts it: by
// libvirt, which goes on when nobody waits for it any more.
func (h *Hypervisor) HoldSaving(id string) (release func()) {
	w := &writing{released: make(chan struct{}), aborted: make(chan struct{}, 1)}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.writing[id] = w
	return sync.OnceFunc(func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.writing, id)
		close(w.released)
	})
}

func (h *Hypervisor) writingOf(id string) *writing {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.writing[id]
}

// snapshotSlowly is Snapshot of memory that is held.
func (h *Hypervisor) snapshotSlowly(ctx context.Context, id string, what vm.Snapshotting, w *writing) error {
	if err := h.callActive(ctx, "Snapshot", id, func(d *fakeDomain) error { d.saving = true; return nil }); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() {
		var aborted bool
		select {
		case <-w.released:
		case <-w.aborted:
			aborted = true
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		d := h.domains[id]
		switch {
		case d == nil || !d.state.Active():
			ended <- fmt.Errorf("Snapshot: %w", errdefs.ErrAborted)
			return
		case aborted:
			ended <- fmt.Errorf("Snapshot: operation aborted: %w", errdefs.ErrAborted)
		default:
			ended <- h.snapshot(d, what)
		}
		d.saving, d.progress = false, vm.Progress{}
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// SetProgress is what Progress tells of an active domain.
func (h *Hypervisor) SetProgress(id string, p vm.Progress) {
	h.withActive(id, func(d *fakeDomain) { d.progress = p })
}

// Progress implements lifecycle.Hypervisor.
func (h *Hypervisor) Progress(ctx context.Context, id string) (p vm.Progress, err error) {
	err = h.callActive(ctx, "Progress", id, func(d *fakeDomain) error {
		p = d.progress
		return nil
	})
	return p, err
}

// AbortSaving implements lifecycle.Hypervisor.
func (h *Hypervisor) AbortSaving(ctx context.Context, id string) error {
	return h.callDomain(ctx, "AbortSaving", id, func(d *fakeDomain) error {
		if w := h.writing[id]; w != nil && d.saving {
			select {
			case w.aborted <- struct{}{}:
			default: // it was told already
			}
		}
		return nil
	})
}
