// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// StopSandbox ends what runs in the sandbox at once and gives its network back. Disks
// stay. Unknown and stopped sandboxes are a success, as CRI's StopPodSandbox demands:
// "This call is idempotent, and must not return an error if all relevant resources
// have already been reclaimed".
func (s *Service) StopSandbox(ctx context.Context, ref string) error {
	sb, err := s.Sandbox(ref)
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.shareErr(ctx, "stop sandbox "+sb.ID, func(ctx context.Context) error {
		return s.observed("sandbox_stop", func() error {
			unlock, err := s.locks.Lock(ctx, sb.ID)
			if err != nil {
				return err
			}
			defer unlock()
			return s.stopSandbox(ctx, sb.ID)
		})
	})
}

// stopSandbox does the work of StopSandbox under the sandbox's lock. Every step is
// idempotent: after a failure or a crash it is simply done again.
func (s *Service) stopSandbox(ctx context.Context, id string) error {
	sb, err := s.deps.Store.Sandboxes.Get(id)
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if sb.Status.Stopped() {
		return nil
	}
	if sb, err = s.updateSandbox(id, "sandbox stopping", func(st vm.SandboxStatus) (vm.SandboxStatus, error) {
		return st.To(vm.SandboxStopping)
	}); err != nil {
		return fmt.Errorf("stop sandbox %s: %w", id, err)
	}
	if err := s.endContainers(ctx, id); err != nil {
		return fmt.Errorf("stop sandbox %s: %w", id, err)
	}
	// Also without a live container: a start that was cut short may have left a domain.
	if err := s.deps.Hypervisor.Destroy(ctx, id); err != nil {
		return fmt.Errorf("stop sandbox %s: %w", id, err)
	}
	if err := s.deps.Hypervisor.Undefine(ctx, id); err != nil {
		return fmt.Errorf("stop sandbox %s: %w", id, err)
	}
	if err := s.freeDisks(ctx, sb); err != nil {
		return fmt.Errorf("stop sandbox %s: free its root disk: %w", id, err)
	}
	if err := s.deps.Shares.Remove(ctx, id); err != nil {
		return fmt.Errorf("stop sandbox %s: %w", id, err)
	}
	if err := s.removeCgroup(ctx, sb); err != nil {
		return fmt.Errorf("stop sandbox %s: %w", id, err)
	}
	if err := s.deps.Network.Teardown(ctx, networkRequest(sb)); err != nil {
		return fmt.Errorf("stop sandbox %s: give its network back: %w", id, err)
	}
	if _, err := s.updateSandbox(id, "sandbox stopped", func(st vm.SandboxStatus) (vm.SandboxStatus, error) {
		st.Network, st.NICs = nil, nil
		return st.To(vm.SandboxNotReady)
	}); err != nil {
		return fmt.Errorf("stop sandbox %s: %w", id, err)
	}
	return nil
}

// endContainers ends every live container of the sandbox, by force.
func (s *Service) endContainers(ctx context.Context, sandboxID string) error {
	for _, c := range s.containersOf(sandboxID) {
		switch c.Status.State {
		case vm.ContainerStarting, vm.ContainerRunning:
			if err := s.destroyContainer(ctx, c); err != nil {
				return err
			}
		case vm.ContainerCreated:
			if err := s.exitUnstarted(ctx, c, vm.ReasonNeverStarted, "the sandbox was stopped before the container was started"); err != nil {
				return err
			}
		case vm.ContainerCreating:
			if err := s.undoCreate(ctx, c); err != nil {
				return err
			}
		case vm.ContainerExited, vm.ContainerRemoving:
		}
	}
	return nil
}

// removeCgroup removes the sandbox's group where we own groups.
func (s *Service) removeCgroup(ctx context.Context, sb vm.Sandbox) error {
	if s.cfg.LibvirtCgroups {
		return nil
	}
	return s.deps.Cgroups.Remove(ctx, sb.ID, sb.Spec.CgroupParent)
}
