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
	stdout, stderr := capped{most: req.MaxOutput}, capped{most: req.MaxOutput}
	code, err := s.ExecStream(ctx, ref, req.Command, false, vm.Streams{Stdout: &stdout, Stderr: &stderr})
	if err != nil {
		return vm.ExecResult{}, err
	}
	return vm.ExecResult{ExitCode: code, Stdout: stdout.kept, Stderr: stderr.kept}, nil
}

// ExecStream runs a command in the guest with its streams connected, and returns its exit
// code. It ends as Exec does. The command has the environment and the rights of the
// container's own, if that has one.
func (s *Service) ExecStream(ctx context.Context, ref string, cmd []string, tty bool, streams vm.Streams) (int32, error) {
	c, err := s.running(ref)
	if err != nil {
		return 0, fmt.Errorf("exec: %w", err)
	}
	if c.Status.Paused {
		return 0, fmt.Errorf("exec in container %s: its VM is paused: %w", c.ID, errdefs.ErrFailedPrecondition)
	}
	if err := s.awaitBegun(ctx, c); err != nil {
		return 0, fmt.Errorf("exec in container %s, whose guest is not ready for it yet: %w", c.ID, err)
	}
	if c, err = s.running(c.ID); err != nil {
		return 0, fmt.Errorf("exec: %w", err)
	}
	code, err := s.deps.Guest.Exec(ctx, c.SandboxID, processOf(c, cmd, tty), streams)
	if err != nil {
		return 0, fmt.Errorf("exec in container %s: %w", c.ID, err)
	}
	return code, nil
}

// ReopenLog opens a running container's log file anew, after kubelet renamed it. CRI:
// "If the container is not running, ReopenContainerLog returns an error".
func (s *Service) ReopenLog(ctx context.Context, ref string) error {
	c, err := s.held(ref)
	if err != nil {
		return fmt.Errorf("reopen log: %w", err)
	}
	if err := s.deps.Consoles.Reopen(ctx, c.ID); err != nil {
		return fmt.Errorf("reopen the log of container %s: %w", c.ID, err)
	}
	return nil
}

// running finds a container that must be running, its VM too.
func (s *Service) running(ref string) (vm.Container, error) {
	c, err := s.held(ref)
	if err == nil && c.Status.Off() {
		err = fmt.Errorf("container %s: %w", c.ID, errOff)
	}
	return c, err
}

// held finds a container that must be running, while its VM may be powered off.
func (s *Service) held(ref string) (vm.Container, error) {
	c, err := s.Container(ref)
	if err != nil {
		return c, err
	}
	if c.Status.State != vm.ContainerRunning {
		return c, fmt.Errorf("container %s is %s, not running: %w", c.ID, c.Status.State, errdefs.ErrFailedPrecondition)
	}
	return c, nil
}

// capped keeps the beginning of what is written and drops the rest. It has no other way in
// than Write, as an embedded buffer would.
type capped struct {
	kept []byte
	most int
}

// Write implements io.Writer. It takes everything, so that the command goes on.
func (c *capped) Write(p []byte) (int, error) {
	room := max(c.most-len(c.kept), 0)
	c.kept = append(c.kept, p[:min(room, len(p))]...)
	return len(p), nil
}
