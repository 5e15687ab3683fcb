// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"

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
// nobody does that. FailedPrecondition if the container ends before that.
func (s *Service) awaitBegun(ctx context.Context, c vm.Container) error {
	if !c.Spec.HasMain() {
		if err := s.findMaker(ctx, c); err != nil {
			return err
		}
	}
	opened, over := s.attendants.beginning(c.ID)
	if opened == nil {
		return nil
	}
	select {
	case <-opened:
		return nil
	case <-over:
		if s.life.Err() != nil {
			return errClosed
		}
		return fmt.Errorf("the container has ended: %w", errdefs.ErrFailedPrecondition)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// beginning is closed when a container's beginning is there, and over when the container is gone before; both nil if
// nobody attends it.
func (a *attendants) beginning(containerID string) (opened, over <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if one := a.m[containerID]; one != nil {
		return one.begun.opened, one.over
	}
	return nil, nil
}

// findMaker waits for an agent of a machine that has not begun. One that is not vmlet-agent makes nothing of the machine,
// so nothing is waited for.
func (s *Service) findMaker(ctx context.Context, c vm.Container) error {
	if s.attendants.hasBegun(c.ID) {
		return nil
	}
	_, err := s.deps.Guest.Info(ctx, c.SandboxID)
	if errors.Is(err, errdefs.ErrNotImplemented) {
		s.attendants.setBegun(c.ID, true)
		return nil
	}
	return err
}

// hasBegun is true also for a container that nobody attends.
func (a *attendants) hasBegun(containerID string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	one := a.m[containerID]
	return one == nil || one.begun.is
}
