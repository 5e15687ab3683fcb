// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"go.uber.org/zap"

	"github.com/vmlet/vmlet/pkg/log"
	"github.com/vmlet/vmlet/pkg/vm"
)

// What ends typing.
var (
	errTakenOver   = fmt.Errorf("somebody else types now: %w", errdefs.ErrAborted)
	errConsoleGone = errors.New("its QEMU is gone")
)

// write types what a client sends until ctx ends. Once another has taken its place, it says so and drops what comes. fail
// is told what nobody expects.
func (s *Service) write(ctx context.Context, one *consoleWriter, client vm.ConsoleClient, fail func(error)) {
	err := s.typeAll(ctx, one, &client)
	one.calm()
	switch {
	case ctx.Err() != nil:
	case errors.Is(err, errTakenOver):
		client.TakenOver()
		drop(ctx, client)
	default:
		fail(fmt.Errorf("type into it: %w", err))
	}
}

// drop reads what nobody wants.
func drop(ctx context.Context, client vm.ConsoleClient) {
	for more := true; more; {
		select {
		case _, more = <-client.Input:
		case <-ctx.Done():
			return
		}
	}
	client.Typed()
}

// typeAll types into one QEMU after another. errTakenOver when another has taken the place, else ctx's error or one that
// nobody expects.
func (s *Service) typeAll(ctx context.Context, one *consoleWriter, client *vm.ConsoleClient) error {
	if one.before != nil {
		<-one.before // which comes at once
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	log.From(ctx).Info("a client types into the console", zap.String("sandbox", one.c.SandboxID))
	for {
		in, err := s.openConsole(ctx, one)
		if err != nil {
			return err
		}
		err = one.typeInto(ctx, in, client)
		in.Close()
		if !errors.Is(err, errConsoleGone) {
			return err
		}
	}
}

// openConsole opens the console of the QEMU that runs, or waits for the next one.
func (s *Service) openConsole(ctx context.Context, one *consoleWriter) (vm.ConsoleInput, error) {
	for {
		in, err := s.tryConsole(ctx, one)
		if err == nil {
			return in, nil
		}
		if !errdefs.IsUnavailable(err) && !errdefs.IsFailedPrecondition(err) && !errdefs.IsNotFound(err) {
			return nil, err
		}
		log.From(ctx).Debug("no console to type into, now", zap.String("sandbox", one.c.SandboxID), zap.Error(err))
		select {
		case <-one.news:
		case <-one.taken:
			return nil, errTakenOver
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// tryConsole opens the console of another QEMU than last time: what libvirt says of that one before it has heard of its end
// may be somebody else's terminal by now.
func (s *Service) tryConsole(ctx context.Context, one *consoleWriter) (vm.ConsoleInput, error) {
	pid, err := s.deps.Hypervisor.PID(ctx, one.c.SandboxID)
	if err != nil {
		return nil, err
	}
	if pid == one.qemu {
		return nil, fmt.Errorf("QEMU %d is gone: %w", pid, errdefs.ErrUnavailable)
	}
	device, err := s.deps.Hypervisor.ConsoleDevice(ctx, one.c.SandboxID)
	if err != nil {
		return nil, err
	}
	in, err := s.deps.Streams.OpenInput(device)
	if err == nil {
		one.qemu = pid
	}
	return in, err
}

// typeInto types into one QEMU. The client's input becomes nil when it has ended.
func (one *consoleWriter) typeInto(ctx context.Context, in vm.ConsoleInput, client *vm.ConsoleClient) error {
	ended := make(chan struct{})
	defer close(ended)
	go func() { // a guest that does not read holds up who types
		select {
		case <-one.taken:
		case <-ctx.Done():
		case <-ended:
		}
		in.Close()
	}()
	var err error
	for err == nil {
		select {
		case <-in.Gone():
			err = errConsoleGone
		case <-one.taken:
			err = errTakenOver
		case <-ctx.Done():
			err = ctx.Err()
		case b, more := <-client.Input:
			if more {
				_, err = in.Write(b)
			} else {
				client.Input = nil
				client.Typed()
			}
		}
	}
	select { // what ended it comes before how it failed
	case <-one.taken:
		return errTakenOver
	default:
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errdefs.IsUnavailable(err) {
		return errConsoleGone
	}
	return err
}
