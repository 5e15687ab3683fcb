// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// RemoveContainer removes a container's record, ending its VM first if it runs. The
// domain belongs to the sandbox and stays, as does the root disk, unless it was for this
// container alone. An unknown container is a
// success: CRI's RemoveContainer "is idempotent, and must not return an error if the
// container has already been removed". The log file is its caller's.
func (s *Service) RemoveContainer(ctx context.Context, ref string) error {
	c, err := s.Container(ref)
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.shareErr(ctx, "remove container "+c.ID, func(ctx context.Context) error {
		return s.observed("container_remove", func() error {
			unlock, err := s.locks.Lock(ctx, c.SandboxID)
			if err != nil {
				return err
			}
			defer unlock()
			got, err := s.deps.Store.Containers.Get(c.ID)
			if errors.Is(err, errdefs.ErrNotFound) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("remove container %s: %w", c.ID, err)
			}
			return s.removeContainer(ctx, got)
		})
	})
}

// removeContainer does the work of RemoveContainer under the sandbox's lock.
func (s *Service) removeContainer(ctx context.Context, c vm.Container) error {
	switch c.Status.State {
	case vm.ContainerStarting, vm.ContainerRunning:
		if err := s.destroyContainer(ctx, c); err != nil {
			return err
		}
	case vm.ContainerCreating:
		return s.undoCreate(ctx, c)
	case vm.ContainerCreated, vm.ContainerExited, vm.ContainerRemoving:
	}
	if _, err := s.updateContainer(c.ID, "container removing", func(st vm.ContainerStatus) (vm.ContainerStatus, error) {
		return st.To(vm.ContainerRemoving)
	}); err != nil {
		return fmt.Errorf("remove container %s: %w", c.ID, err)
	}
	if err := s.finishLog(ctx, c); err != nil {
		return fmt.Errorf("remove container %s: finish its log: %w", c.ID, err)
	}
	if err := s.forgetDiskOf(ctx, c); err != nil {
		return fmt.Errorf("remove container %s: its disk: %w", c.ID, err)
	}
	s.sample.forget(c.ID)
	if err := s.deps.Store.Containers.Delete(c.ID, "container removed"); err != nil {
		return fmt.Errorf("remove container %s: %w", c.ID, err)
	}
	s.tellOf(c.SandboxID, c.ID, vm.ContainerDeletedEvent)
	s.tellVM(c.SandboxID)
	return nil
}
