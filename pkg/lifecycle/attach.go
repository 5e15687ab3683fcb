// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// Attach connects a client to what runs in the container already: its command, or else the
// serial console. It returns when that has ended and all of its output was written, or with
// ctx's error. The end of stdin is not the end of it.
func (s *Service) Attach(ctx context.Context, ref string, streams vm.Streams) error {
	c, err := s.running(ref)
	if err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	if err := s.attachTo(ctx, c, streams); err != nil {
		return fmt.Errorf("attach to container %s: %w", c.ID, err)
	}
	return nil
}

func (s *Service) attachTo(ctx context.Context, c vm.Container, streams vm.Streams) error {
	if streams.Stdin != nil && c.Spec.HasMain() && !c.Spec.Stdin {
		return fmt.Errorf("its command has no stdin; set stdin in the container's spec: %w", errdefs.ErrFailedPrecondition)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// Before the first byte goes in: whoever types "date" wants to see all of the answer.
	deliver, err := s.deps.Streams.Subscribe(ctx, c.ID)
	if err != nil {
		return err
	}
	if streams.Stdin != nil {
		go func() { // it ends with ctx, soon after we return
			if err := s.sendInput(ctx, c, streams); err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("send input: %w", err))
			}
		}()
	}
	err = deliver(ctx, streams.Stdout, streams.Stderr)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	return err
}

// sendInput gives what a client types to the command, or types it into the console.
func (s *Service) sendInput(ctx context.Context, c vm.Container, streams vm.Streams) error {
	if c.Spec.HasMain() {
		if err := s.awaitBegun(ctx, c); err != nil {
			return err
		}
		return s.deps.Guest.AttachMain(ctx, c.SandboxID, c.GuestID(), streams.Stdin, streams.Resize)
	}
	device, err := s.deps.Hypervisor.ConsoleDevice(ctx, c.SandboxID)
	if err != nil {
		return err
	}
	return s.deps.Streams.SendInput(ctx, device, streams.Stdin)
}
