// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// exitPatience is how long the record of an exit may take after the end of what the VM said: the end of the log and the
// cgroup come between the two.
const exitPatience = 10 * time.Second

// Console connects a client to the serial console of a VM, also of one whose container has a command, and returns how the
// VM ended, when it has and all that it said was told. It goes on through reboots. ref is as in vmOf.
//
// There are any number of watchers, and one writer: a second one is FailedPrecondition, or takes the place of the first,
// which goes on as a watcher. Clients of Attach are beside this: they neither hold the place nor lose it. Nobody waits
// for a client that is slow: it is told what it missed.
func (s *Service) Console(ctx context.Context, ref string, req vm.ConsoleRequest, client vm.ConsoleClient) (vm.Exit, error) {
	c, err := s.vmOf(ref)
	if err != nil {
		return vm.Exit{}, fmt.Errorf("console: %w", err)
	}
	if err := s.gateVM(c, vm.GateConsole); err != nil {
		return vm.Exit{}, fmt.Errorf("console of the VM of sandbox %s: %w", c.SandboxID, err)
	}
	gone, forget := s.exits.wait(c.ID)
	defer forget()
	if err := s.console(ctx, c, req, client); err != nil {
		return vm.Exit{}, fmt.Errorf("console of the VM of sandbox %s: %w", c.SandboxID, err)
	}
	return s.exitOf(ctx, c.ID, gone), nil
}

// console returns nil when the VM has ended.
func (s *Service) console(ctx context.Context, c vm.Container, req vm.ConsoleRequest, client vm.ConsoleClient) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var writer *consoleWriter
	if req.Write {
		var err error
		if writer, err = s.writers.enter(c, s.now(), req.Force); err != nil {
			cancel(nil)
			return err
		}
		defer s.writers.leave(writer)
		defer func() { <-writer.calmed }()
	}
	defer cancel(nil)
	// Before the first byte goes in: whoever types "date" wants to see all of the answer.
	deliver, err := s.deps.Streams.SubscribeSerial(ctx, c.ID, req.Replay)
	if err == nil {
		err = client.Opened(c.SandboxID)
	}
	if err != nil {
		cancel(err)
	}
	if writer != nil {
		go s.write(ctx, writer, client, cancel)
	}
	switch {
	case errdefs.IsNotFound(err):
		return errEndedInstead
	case err != nil && deliver == nil:
		return err
	}
	err = deliver(ctx, client.Output)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	return err
}

// exitOf waits a moment for a container's exit to be on record. gone is from before it could be.
func (s *Service) exitOf(ctx context.Context, id string, gone <-chan struct{}) vm.Exit {
	timer := time.NewTimer(exitPatience)
	defer timer.Stop()
	c, err := s.deps.Store.Containers.Get(id)
	if err == nil && c.Status.Exit == nil {
		select {
		case <-gone:
		case <-timer.C:
		case <-ctx.Done():
		}
		c, err = s.deps.Store.Containers.Get(id)
	}
	if err != nil || c.Status.Exit == nil {
		return vm.Exit{}
	}
	return *c.Status.Exit
}
