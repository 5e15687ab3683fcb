// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/zap"

	"github.com/vmlet/vmlet/pkg/log"
	"github.com/vmlet/vmlet/pkg/vm"
)

// settleTimeout bounds the settling of one exit; settleRetry is the wait before it is
// tried again while libvirt does not answer.
const (
	settleTimeout = 30 * time.Second
	settleRetry   = time.Second
)

// listen folds the events of libvirt into state. An event is only a reason to look:
// what counts is the domain as it is, so that a late event about one boot cannot end
// the next one. Looking happens off this goroutine, since it waits for locks.
func (s *Service) listen(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-s.deps.Hypervisor.Events():
			s.hear(ctx, e)
		}
	}
}

func (s *Service) hear(ctx context.Context, e vm.Event) {
	ctx = log.With(ctx, zap.String("sandbox", e.SandboxID))
	log.From(ctx).Debug("event", zap.String("kind", string(e.Kind)), zap.String("detail", e.Detail))
	switch e.Kind {
	case vm.EventReconnected:
		for _, c := range s.deps.Store.Containers.List() {
			if c.Status.State == vm.ContainerRunning {
				s.work.Go(func() { s.look(ctx, c.SandboxID) })
			}
		}
	case vm.EventStopped:
		s.hints.note(e)
		s.work.Go(func() { s.look(ctx, e.SandboxID) })
	case vm.EventIOError:
		log.From(ctx).Warn("a disk of the VM failed and the guest is paused", zap.String("detail", e.Detail))
	case vm.EventGuestShutdown, vm.EventHostShutdown, vm.EventPanicked:
		s.hints.note(e)
	case vm.EventStarted, vm.EventResumed, vm.EventSuspended, vm.EventRebooted, vm.EventAgentConnected, vm.EventAgentDisconnected:
	}
}

// look settles the exit of a sandbox's VM if it has ended. While libvirt is away it
// tries again; EventReconnected would come too, but need not come soon.
func (s *Service) look(ctx context.Context, sandboxID string) {
	for {
		err := s.settle(ctx, sandboxID)
		if err == nil {
			return
		}
		log.From(ctx).Warn("the end of a VM is not settled yet", zap.String("sandbox", sandboxID), zap.Error(err))
		if !errors.Is(err, errdefs.ErrUnavailable) && !errors.Is(err, context.DeadlineExceeded) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(settleRetry):
		}
	}
}

func (s *Service) settle(ctx context.Context, sandboxID string) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	unlock, err := s.locks.Lock(ctx, sandboxID)
	if err != nil {
		return err
	}
	defer unlock()
	c, ok := s.liveContainer(sandboxID)
	if !ok || c.Status.State != vm.ContainerRunning {
		s.hints.forget(sandboxID) // somebody else has settled it
		return nil
	}
	d, err := s.deps.Hypervisor.Domain(ctx, sandboxID)
	if err != nil {
		return err
	}
	if d.State.Active() {
		s.hints.forget(sandboxID) // they were about an earlier boot
		return nil
	}
	return s.settleExit(ctx, c, d)
}
