// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"go.uber.org/zap"

	"github.com/vmlet/vmlet/pkg/log"
	"github.com/vmlet/vmlet/pkg/vm"
)

// askAgain is how long after asking the guest to power off it is asked again: a guest
// that is still booting has nobody to hear the first press of the button.
const askAgain = 2 * time.Second

// signalPatience is how long an agent may take to signal the command: it may be just about
// to answer again, and whoever asks the whole guest to power off loses the command's own
// exit code.
const signalPatience = 5 * time.Second

// StopContainer asks the guest to power off, or its command to end, where there is one that
// runs; waits up to grace; then destroys the VM. It returns when the VM is gone. A grace of zero or less destroys at once, also when an
// earlier stop still waits; a shorter grace shortens an earlier one's wait, a longer
// one does not prolong it. Unknown and ended containers are a success, as CRI's
// StopContainer demands ("This call is idempotent").
//
// The wait holds no lock and does not end with the caller.
func (s *Service) StopContainer(ctx context.Context, ref string, grace time.Duration) error {
	c, err := s.Container(ref)
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	op, err := s.beginStop(ctx, c, max(grace, 0))
	if err != nil || op == nil {
		return err
	}
	select {
	case <-op.done:
		return op.err
	case <-ctx.Done():
		return fmt.Errorf("stop container %s goes on without its caller: %w", c.ID, ctx.Err())
	}
}

// stops are the stops under way, by container ID.
type stops struct {
	mu sync.Mutex
	m  map[string]*stop
}

// stop is one try of a stop under way. done is closed after err is set. Its deadlines are of this process's monotonic
// clock: a step of the wall clock, which the deadline on record is of, neither cuts a grace short nor prolongs it.
type stop struct {
	// until is the deadline, under stops.mu.
	until time.Time
	// deadlines carries shorter deadlines to the goroutine that waits.
	deadlines chan time.Time
	done      chan struct{}
	err       error
}

// beginStop records the intent and starts the wait, or joins the one under way. It
// returns nil for a container that does not run.
func (s *Service) beginStop(ctx context.Context, c vm.Container, grace time.Duration) (*stop, error) {
	unlock, err := s.locks.Lock(ctx, c.SandboxID)
	if err != nil {
		return nil, err
	}
	defer unlock()
	c, err = s.deps.Store.Containers.Get(c.ID)
	if errors.Is(err, errdefs.ErrNotFound) || err == nil && c.Status.State != vm.ContainerRunning {
		return nil, nil //nolint:nilnil // no stop is needed, which is no error
	}
	if err != nil {
		return nil, fmt.Errorf("stop container %s: %w", c.ID, err)
	}
	if c.Status.Off() {
		return nil, s.endOff(ctx, c) // there is no guest to ask, nor to wait for
	}
	if c, err = s.intendStop(c, grace); err != nil {
		return nil, fmt.Errorf("stop container %s: %w", c.ID, err)
	}
	return s.waitStop(c, grace), nil
}

// intendStop records that a stop was asked for; an earlier deadline stays.
func (s *Service) intendStop(c vm.Container, grace time.Duration) (vm.Container, error) {
	now := s.now()
	deadline := now.Add(grace)
	return s.updateContainer(c.ID, "stop intended", func(st vm.ContainerStatus) (vm.ContainerStatus, error) {
		next := vm.StopIntent{RequestedAt: now, Deadline: deadline}
		if old := st.Stop; old != nil {
			next = *old
			if deadline.Before(old.Deadline) {
				next.Deadline = deadline
			}
		}
		st.Stop = &next
		return st, nil
	})
}

// leftOfGrace is what a stop of an earlier life still gives the guest: never more than it gave at first, wherever the
// clock is set meanwhile.
func (s *Service) leftOfGrace(intent vm.StopIntent) time.Duration {
	return leftOf(intent.Deadline, intent.RequestedAt, s.now())
}

// leftOf is the time from now to a point of an earlier life: never more than it was when it was set, wherever the clock
// is set meanwhile.
func leftOf(point, set, now time.Time) time.Duration {
	return min(max(point.Sub(now), 0), point.Sub(set))
}

// waitStop starts the goroutine that sees a recorded stop through, or tells the one
// that is there of a shorter deadline. Recovery calls it for stops of an earlier life.
func (s *Service) waitStop(c vm.Container, grace time.Duration) *stop {
	until := time.Now().Add(grace)
	s.stops.mu.Lock()
	defer s.stops.mu.Unlock()
	if op, ok := s.stops.m[c.ID]; ok {
		if until.Before(op.until) {
			op.until = until
		}
		// One slot, and all senders hold the mutex: taking out what was not read yet
		// makes room, so this never blocks.
		select {
		case <-op.deadlines:
		default:
		}
		op.deadlines <- op.until
		return op
	}
	op := &stop{until: until, deadlines: make(chan time.Time, 1), done: make(chan struct{})}
	if s.stops.m == nil {
		s.stops.m = map[string]*stop{}
	}
	s.stops.m[c.ID] = op
	begun := s.work.Go(func() { s.runStop(c, op) })
	if !begun {
		delete(s.stops.m, c.ID)
		op.err = fmt.Errorf("stop container %s: %w", c.ID, errClosed)
		close(op.done)
	}
	return op
}

// runStop sees a stop through. One that fails is told to whoever waits for it and tried
// again, ever less often, or as soon as somebody asks once more: a stop that was begun
// must come to its end also if its caller never returns.
func (s *Service) runStop(c vm.Container, op *stop) {
	for wait := settleRetry; ; wait = min(2*wait, settleRetryMost) {
		err := s.observed("container_stop", func() error { return s.seeStopThrough(s.life, c, s.deadlineOf(op), op.deadlines) })
		next := s.endTry(c, op, err)
		if next == nil {
			return
		}
		op = next
		log.From(s.life).Warn("a stop has failed and will be tried again", zap.String("sandbox", c.SandboxID), zap.String("container", c.ID), zap.Error(err))
		select {
		case <-op.deadlines:
		case <-time.After(wait):
		case <-s.life.Done():
		}
	}
}

// deadlineOf is when the guest is to be gone, by what was asked so far.
func (s *Service) deadlineOf(op *stop) time.Time {
	s.stops.mu.Lock()
	defer s.stops.mu.Unlock()
	return op.until
}

// endTry tells how a try ended. It returns what later callers wait for, nil if there will
// be no further try.
func (s *Service) endTry(c vm.Container, op *stop, err error) (next *stop) {
	s.stops.mu.Lock()
	defer s.stops.mu.Unlock()
	if err != nil && s.life.Err() == nil {
		next = &stop{until: op.until, deadlines: op.deadlines, done: make(chan struct{})}
		s.stops.m[c.ID] = next
	} else {
		delete(s.stops.m, c.ID)
	}
	op.err = err
	close(op.done)
	return next
}

// seeStopThrough asks the guest to power off until it is gone or the deadline is there.
func (s *Service) seeStopThrough(ctx context.Context, c vm.Container, until time.Time, deadlines <-chan time.Time) error {
	gone, forget := s.exits.wait(c.ID)
	defer forget()
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()

	if time.Until(until) > 0 {
		asking, enough := context.WithCancel(ctx)
		defer enough()
		s.hastenExit(asking, c)
		s.work.Go(func() { s.askToEnd(asking, c) })
	}
	for {
		if ctx.Err() != nil {
			return fmt.Errorf("stop container %s goes on after the next start of vmlet: %w", c.ID, errdefs.ErrUnavailable)
		}
		if got, err := s.deps.Store.Containers.Get(c.ID); err != nil || got.Status.State != vm.ContainerRunning {
			return nil
		}
		select {
		case <-gone:
			return nil
		case until = <-deadlines:
			timer.Reset(time.Until(until))
		case <-timer.C:
			return s.forceStop(ctx, c)
		case <-ctx.Done():
		}
	}
}

// hastenExit watches QEMU end, which makes libvirt notice the end at once instead of at
// its next look, up to 200 ms later. Without it a stop is as right, and slower.
func (s *Service) hastenExit(ctx context.Context, c vm.Container) {
	s.work.Go(func() {
		if err := s.deps.Hypervisor.AwaitExit(ctx, c.SandboxID); err != nil && ctx.Err() == nil {
			log.From(ctx).Debug("the end of QEMU is not watched", zap.String("container", c.ID), zap.Error(err))
		}
	})
}

// askToEnd asks for the end of the command, whose end is the container's, or else of the
// guest.
func (s *Service) askToEnd(ctx context.Context, c vm.Container) {
	if err := s.letRun(ctx, c); err != nil && ctx.Err() == nil {
		log.From(ctx).Warn("a paused guest could not be let run to power off", zap.String("container", c.ID), zap.Error(err))
	}
	if !c.Spec.HasMain() || !s.signalMain(ctx, c) {
		s.askToPowerOff(ctx, c)
	}
}

// signalMain sends the command its stop signal, once. False if there is no command to
// signal: it was not started yet, or the agent is silent.
func (s *Service) signalMain(ctx context.Context, c vm.Container) bool {
	signal := c.Spec.StopSignal
	if signal == "" {
		signal = "SIGTERM"
	}
	ctx, cancel := context.WithTimeout(ctx, signalPatience)
	defer cancel()
	err := s.deps.Guest.SignalMain(ctx, c.SandboxID, c.GuestID(), signal)
	if err != nil {
		log.From(ctx).Info("the command could not be signalled; the guest is asked to power off", zap.String("container", c.ID), zap.Error(err))
	}
	return err == nil
}

// askToPowerOff presses the ACPI power button again and again until ctx ends, and asks
// the agent as well when the button alone did not help. The button comes first: it
// reaches every guest that handles ACPI. Failing to ask is no failure of the stop,
// whose deadline stands.
//
// It runs beside the wait for that deadline, since a QEMU that hangs never answers, and
// asks one thing at a time, since each call without an answer keeps libvirt busy.
func (s *Service) askToPowerOff(ctx context.Context, c vm.Container) {
	again := time.NewTicker(askAgain)
	defer again.Stop()
	for first := true; ; first = false {
		if err := s.deps.Hypervisor.PowerButton(ctx, c.SandboxID); err != nil && ctx.Err() == nil {
			log.From(ctx).Info("the guest could not be asked to power off by ACPI", zap.String("container", c.ID), zap.Error(err))
		}
		if !first {
			s.askAgent(ctx, c)
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return
		}
	}
}

func (s *Service) askAgent(ctx context.Context, c vm.Container) {
	ctx, cancel := context.WithTimeout(ctx, askAgain)
	defer cancel()
	if err := s.deps.Guest.Shutdown(ctx, c.SandboxID); err != nil {
		log.From(ctx).Debug("the guest could not be asked to power off by its agent", zap.String("container", c.ID), zap.Error(err))
	}
}

// forceStop destroys the VM of a container whose grace is over.
func (s *Service) forceStop(ctx context.Context, c vm.Container) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), workTimeout)
	defer cancel()
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
		return fmt.Errorf("stop container %s: %w", c.ID, err)
	}
	return s.destroyContainer(ctx, got)
}

// destroyContainer ends a starting or running container at once, under the lock.
func (s *Service) destroyContainer(ctx context.Context, c vm.Container) error {
	if !c.Status.Live() {
		return nil
	}
	if c.Status.Off() {
		return s.endOff(ctx, c)
	}
	now := s.now()
	c, err := s.updateContainer(c.ID, "force intended", func(st vm.ContainerStatus) (vm.ContainerStatus, error) {
		next := vm.StopIntent{RequestedAt: now, Deadline: now}
		if st.Stop != nil {
			next = *st.Stop
		}
		next.Forced = true
		st.Stop = &next
		return st, nil
	})
	if err != nil {
		return fmt.Errorf("destroy container %s: %w", c.ID, err)
	}
	if err := s.deps.Hypervisor.Destroy(ctx, c.SandboxID); err != nil {
		return fmt.Errorf("destroy container %s: %w", c.ID, err)
	}
	return s.settleExit(ctx, c, vm.Domain{State: vm.DomainShutoff})
}
