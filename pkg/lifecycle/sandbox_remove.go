// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// RemoveSandbox removes a sandbox with its containers and disks, ending what runs.
// Unknown sandboxes are a success: CRI's RemovePodSandbox "is idempotent, and must not
// return an error if the sandbox has already been removed".
func (s *Service) RemoveSandbox(ctx context.Context, ref string) error {
	sb, err := s.Sandbox(ref)
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.shareErr(ctx, "remove sandbox "+sb.ID, func(ctx context.Context) error {
		return s.observed("sandbox_remove", func() error {
			unlock, err := s.locks.Lock(ctx, sb.ID)
			if err != nil {
				return err
			}
			defer unlock()
			return s.removeSandbox(ctx, sb.ID)
		})
	})
}

// removeSandbox does the work of RemoveSandbox under the sandbox's lock. The record
// goes last: as long as anything is left, something knows of it.
func (s *Service) removeSandbox(ctx context.Context, id string) error {
	if err := s.stopSandbox(ctx, id); err != nil {
		return err
	}
	if _, err := s.updateSandbox(id, "sandbox removing", func(st vm.SandboxStatus) (vm.SandboxStatus, error) {
		return st.To(vm.SandboxRemoving)
	}); err != nil {
		if errors.Is(err, errdefs.ErrNotFound) {
			return nil
		}
		return fmt.Errorf("remove sandbox %s: %w", id, err)
	}
	for _, c := range s.containersOf(id) {
		if err := s.removeContainer(ctx, c); err != nil {
			return fmt.Errorf("remove sandbox %s: %w", id, err)
		}
	}
	if err := errors.Join(s.merges.interrupt(ctx, id), s.removeCheckpoints(ctx, id)); err != nil {
		return fmt.Errorf("remove sandbox %s: %w", id, err)
	}
	if err := s.deps.Disks.RemoveSandbox(ctx, id); err != nil {
		return fmt.Errorf("remove sandbox %s: %w", id, err)
	}
	s.hints.forget(id)
	if err := s.deps.Store.Sandboxes.Delete(id, "sandbox removed"); err != nil {
		return fmt.Errorf("remove sandbox %s: %w", id, err)
	}
	s.tellOf(id, id, vm.ContainerDeletedEvent)
	s.tellVM(id)
	return nil
}
