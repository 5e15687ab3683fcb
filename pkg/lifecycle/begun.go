// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// begun is whether a container's command was started in the guest's present boot. What is to
// be beside the command waits for it: before, the guest is not as the pod wants it.
type begun struct {
	// opened is closed once it was.
	opened chan struct{}
	is     bool
}

// setBegun tells those who wait for a command.
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

// awaitCommand returns once the container's command was started, at once if it has none.
// FailedPrecondition if the container ends before that.
func (s *Service) awaitCommand(ctx context.Context, c vm.Container) error {
	if !c.Spec.HasMain() {
		return nil
	}
	s.attendants.mu.Lock()
	one := s.attendants.m[c.ID]
	if one == nil {
		s.attendants.mu.Unlock()
		return nil
	}
	opened, over := one.begun.opened, one.over
	s.attendants.mu.Unlock()
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
