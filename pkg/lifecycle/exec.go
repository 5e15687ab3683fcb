// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// Exec runs a command in the guest and waits for its end or ctx's, upon which it is
// killed. A guest that still boots is waited for. FailedPrecondition if the container
// does not run.
func (s *Service) Exec(ctx context.Context, ref string, req vm.ExecRequest) (vm.ExecResult, error) {
	c, err := s.running(ref)
	if err != nil {
		return vm.ExecResult{}, fmt.Errorf("exec: %w", err)
	}
	res, err := s.deps.Guest.Exec(ctx, c.SandboxID, req)
	if err != nil {
		return res, fmt.Errorf("exec in container %s: %w", c.ID, err)
	}
	return res, nil
}

// ReopenLog opens a running container's log file anew, after kubelet renamed it. CRI:
// "If the container is not running, ReopenContainerLog returns an error".
func (s *Service) ReopenLog(ctx context.Context, ref string) error {
	c, err := s.running(ref)
	if err != nil {
		return fmt.Errorf("reopen log: %w", err)
	}
	if err := s.deps.Consoles.Reopen(ctx, c.ID); err != nil {
		return fmt.Errorf("reopen the log of container %s: %w", c.ID, err)
	}
	return nil
}

// running finds a container that must be running.
func (s *Service) running(ref string) (vm.Container, error) {
	c, err := s.Container(ref)
	if err != nil {
		return c, err
	}
	if c.Status.State != vm.ContainerRunning {
		return c, fmt.Errorf("container %s is %s, not running: %w", c.ID, c.Status.State, errdefs.ErrFailedPrecondition)
	}
	return c, nil
}
