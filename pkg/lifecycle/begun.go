// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/annotations"
	"github.com/vmlet/vmlet/pkg/vm"
)

// begun is whether what runs in the guest beside its own programs may begin, in its present boot: the container's
// command was started, or a machine made as the pod wants it. What comes from outside waits for it: before, the volumes
// are not there.
type begun struct {
	// opened is closed once it may.
	opened chan struct{}
	is     bool
}

// setBegun tells those who wait.
func (a *attendants) setBegun(containerID string, is bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	one := a.m[containerID]
	if one == nil || one.begun.is == is {
		return
	}
	if is {
		close(one.begun.opened)
	} else {
		one.begun.opened = make(chan struct{})
	}
	one.begun.is = is
}

// awaitBegun returns once the container's command was started, or its machine made as the pod wants it, and at once where
// nobody does that. FailedPrecondition if the container ends before that; Unavailable for a machine that no agent answers
// in: kubelet sets no time for a hook, and does not end a pod before its postStart hook.
func (s *Service) awaitBegun(ctx context.Context, c vm.Container) error {
	a, opened := s.attendants.begun(c.ID)
	if opened == nil {
		return nil
	}
	var late <-chan time.Time
	if !c.Spec.HasMain() {
		a.find()
		timer := time.NewTimer(a.timeout)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-opened:
		return nil
	case <-a.over:
		if s.life.Err() != nil {
			return errClosed
		}
		return fmt.Errorf("the container has ended: %w", errdefs.ErrFailedPrecondition)
	case <-late:
		return noAgent(a.timeout)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// noAgent is the error for a guest in which no agent has answered in time.
func noAgent(timeout time.Duration) error {
	return fmt.Errorf("no agent answered in the guest within %s: use an image that has vmlet-agent, have cloud-init install it (annotation %s=%s), or give the boot more time (annotation %s): %w",
		timeout, annotations.GuestAgent, vm.GuestAgentSeed, annotations.AgentTimeout, errdefs.ErrUnavailable)
}

// begun returns the attendant of a container that has not begun, and what is closed when it does; nil if there is nothing
// to wait for.
func (a *attendants) begun(containerID string) (*attendant, <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	one := a.m[containerID]
	if one == nil || one.begun.is {
		return nil, nil
	}
	return one, one.begun.opened
}

// finder returns a function that has the machine begin if its agent turns out not to be vmlet-agent, which is then all
// there will be. It begins to look when it is called first, and goes on when its caller does not wait.
func (s *Service) finder(ctx context.Context, c vm.Container) func() {
	return sync.OnceFunc(func() {
		s.work.Go(func() {
			ours, err := s.deps.Guest.AwaitAny(ctx, c.SandboxID)
			if ctx.Err() == nil && (err != nil || !ours) {
				s.attendants.setBegun(c.ID, true) // what is wrong, exec says
			}
		})
	})
}
