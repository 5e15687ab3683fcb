// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/log"
	"github.com/vmlet/vmlet/pkg/vm"
)

// ioErrorRest is how long a guest rests whose disk has failed. Nearly always the host's disk is full; that somebody has
// made room is told nobody, so the guest tries.
const ioErrorRest = 5 * time.Second

// ioErrorReason is libvirt's word for why such a guest is paused.
const ioErrorReason = "ioerror"

// resting are the sandboxes whose guest is to go on soon, each once, however many requests of its disks have failed.
type resting struct {
	mu sync.Mutex
	m  map[string]bool
}

func (r *resting) begin(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.m[id] {
		return false
	}
	if r.m == nil {
		r.m = map[string]bool{}
	}
	r.m[id] = true
	return true
}

func (r *resting) end(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.m, id)
}

// restAfterIOError lets a guest go on, after a rest, that QEMU has paused because a disk failed. QEMU repeats what failed;
// if it fails again the guest is paused again, and that is the next event.
func (s *Service) restAfterIOError(ctx context.Context, sandboxID string) {
	if !s.resting.begin(sandboxID) {
		return
	}
	s.work.Go(func() {
		select {
		case <-time.After(ioErrorRest):
		case <-ctx.Done():
		}
		// Before the guest goes on: the next failure may be there before the call that lets it has returned.
		s.resting.end(sandboxID)
		again(ctx, "a guest whose disk has failed", func(ctx context.Context) error { return s.letGoOn(ctx, sandboxID) })
	})
}

func (s *Service) letGoOn(ctx context.Context, sandboxID string) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	unlock, err := s.locks.Lock(ctx, sandboxID)
	if err != nil {
		return err
	}
	defer unlock()
	d, err := s.deps.Hypervisor.Domain(ctx, sandboxID)
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil
	}
	if err != nil || !restsForIOError(d) {
		return err
	}
	if c, ok := s.liveContainer(sandboxID); ok && c.Status.Paused {
		return nil // who paused it lets it go on
	}
	log.From(ctx).Info("the guest goes on after a failure of its disk")
	return s.deps.Hypervisor.Resume(ctx, sandboxID)
}

func restsForIOError(d vm.Domain) bool {
	return d.State == vm.DomainPaused && d.Reason == ioErrorReason
}
