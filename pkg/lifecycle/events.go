// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/vmlet/vmlet/pkg/log"
	"github.com/vmlet/vmlet/pkg/vm"
)

// settleTimeout bounds one try to settle an exit; settleRetry is the wait before the
// second one, which doubles up to settleRetryMost.
const (
	settleTimeout   = 30 * time.Second
	settleRetry     = time.Second
	settleRetryMost = 30 * time.Second
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
	s.stills.hear(e)
	switch e.Kind {
	case vm.EventReconnected:
		s.writers.tell("")
		s.memories.tell("")
		s.work.Go(func() { s.lookAfterReconnect(ctx) })
		s.work.Go(func() { again(ctx, "what libvirt can do now", s.askHost) }) // it may be another one
		s.hearOfDisks("")                                                      //nolint:contextcheck // it has the life of the service
	case vm.EventStopped:
		s.hints.note(e)
		s.tellQGA(e.SandboxID, false)
		s.unplugs.tell(e.SandboxID)
		s.memories.tell(e.SandboxID)
		s.work.Go(func() { s.look(ctx, e.SandboxID) })
	case vm.EventDeviceRemoved:
		s.hearOfDisks(e.SandboxID) //nolint:contextcheck // as above
	case vm.EventShareLost:
		s.work.Go(func() { s.repairShare(ctx, e.SandboxID, false) })
	case vm.EventIOError:
		log.From(ctx).Warn("a disk of the VM failed and the guest is paused", zap.String("detail", e.Detail))
		s.restAfterIOError(ctx, e.SandboxID)
	case vm.EventGuestShutdown, vm.EventHostShutdown, vm.EventPanicked:
		s.hints.note(e)
	case vm.EventNICRemoved:
		s.lookForNIC(ctx, e.SandboxID, e.Detail)
	case vm.EventRebooted:
		s.reboots.tell(e.SandboxID)
		s.tell(vm.VMEvent{SandboxID: e.SandboxID, Kind: vm.VMRebootedEvent})
	case vm.EventAgentConnected, vm.EventAgentDisconnected:
		s.tellQGA(e.SandboxID, e.Kind == vm.EventAgentConnected)
	case vm.EventStarted:
		s.writers.tell(e.SandboxID)
		s.memories.tell(e.SandboxID)
	case vm.EventMemorySize:
		s.memories.tell(e.SandboxID)
	case vm.EventResumed, vm.EventSuspended:
	}
}

// lookAgain is how long it is between looks at all VMs once libvirt is there. A libvirtd that was started takes up its VMs one
// after another, lists them as running until then, and ends what it cannot take up without telling anybody
// (qemuProcessReconnect).
var lookAgain = []time.Duration{2 * time.Second, 10 * time.Second, time.Minute}

func (s *Service) lookAfterReconnect(ctx context.Context) {
	again(ctx, "what happened while libvirt was away", s.lookAtAll)
	s.lookLater(ctx)
}

// lookLater finds what has ended since all VMs were looked at, and what nobody was told of.
func (s *Service) lookLater(ctx context.Context) {
	for _, wait := range lookAgain {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		again(ctx, "what has ended of late", s.lookForEnds)
	}
}

// lookForEnds looks at every VM that does not run and should.
func (s *Service) lookForEnds(ctx context.Context) error {
	listing, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	domains, err := s.deps.Hypervisor.Domains(listing)
	if err != nil {
		return err
	}
	active := map[string]bool{}
	for _, d := range domains {
		active[d.SandboxID] = d.State.Active()
	}
	s.lookAtEnded(ctx, active)
	return nil
}

// lookAtEnded looks at every VM that should run and is not among the active ones, from which it takes those that should.
func (s *Service) lookAtEnded(ctx context.Context, active map[string]bool) {
	for _, c := range s.deps.Store.Containers.List() {
		if !c.Status.Runs() && (c.Status.PowerOff == nil || !c.Status.PowerOff.Booting) {
			continue
		}
		if !active[c.SandboxID] {
			s.work.Go(func() { s.look(ctx, c.SandboxID) })
		}
		delete(active, c.SandboxID)
	}
}

// lookAtAll looks at every VM that is not what its record says, after events were lost.
func (s *Service) lookAtAll(ctx context.Context) error {
	listing, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	domains, err := s.deps.Hypervisor.Domains(listing)
	if err != nil {
		return err
	}
	active := map[string]bool{}
	for _, d := range domains {
		s.tellQGA(d.SandboxID, d.AgentConnected)
		if d.State.Active() {
			active[d.SandboxID] = true
		}
		if restsForIOError(d) {
			s.restAfterIOError(log.With(ctx, zap.String("sandbox", d.SandboxID)), d.SandboxID)
		}
	}
	s.lookAtEnded(ctx, active)
	s.settleNICs(ctx)
	for id := range active {
		s.work.Go(func() {
			again(ctx, "a VM without a container", func(ctx context.Context) error { return s.lockedEndStray(ctx, id) })
		})
	}
	return nil
}

// look settles the exit of a sandbox's VM if it has ended.
func (s *Service) look(ctx context.Context, sandboxID string) {
	again(log.With(ctx, zap.String("sandbox", sandboxID)), "the end of a VM", func(ctx context.Context) error {
		return s.settle(ctx, sandboxID)
	})
}

// again does something until it succeeds or ctx ends, ever less often. Nobody waits for
// it and nobody else would try: what failed once, as all does while libvirt is away or
// the disk is full, must be right in the end.
func again(ctx context.Context, what string, do func(context.Context) error) {
	for wait := settleRetry; ; wait = min(2*wait, settleRetryMost) {
		err := do(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		log.From(ctx).Warn("not settled yet: "+what, zap.Error(err))
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (s *Service) settle(ctx context.Context, sandboxID string) error {
	timeout := settleTimeout
	if s.notRestoring(sandboxID) != nil {
		timeout = s.restoreTimeout(sandboxID)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
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
	if c.Status.Reboot != nil && c.Status.Reboot.Booting {
		return s.bootAgain(ctx, c)
	}
	if c.Status.Off() {
		s.hints.forget(sandboxID)
		if c.Status.PowerOff.Booting {
			return s.turnOn(ctx, c)
		}
		return nil
	}
	if c.Status.Restore != nil {
		return s.finishRestore(ctx, c)
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
