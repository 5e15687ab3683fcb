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

// finishTimeout bounds the copying of a console's rest into the log. An exit must not
// wait for a full disk: what is left stays in the spool until the container is removed.
const finishTimeout = 5 * time.Second

// settleExit records how a container whose VM is gone has ended, or boots it again if that is why it is gone. Under the
// sandbox's lock; d is the domain as it was just seen.
func (s *Service) settleExit(ctx context.Context, c vm.Container, d vm.Domain) error {
	if st := c.Status.State; st != vm.ContainerRunning && st != vm.ContainerStarting {
		return nil
	}
	if c.Status.Off() {
		return nil // it has no VM
	}
	if c.Status.Restore != nil {
		s.work.Go(func() { s.look(s.life, c.SandboxID) }) // it takes its time
		return nil
	}
	e := s.evidence(ctx, c, d)
	if rebootsBy(c, e) {
		return s.bootAgain(ctx, c)
	}
	if poweredOffBy(c, e) {
		return s.goDown(ctx, c, e)
	}
	return s.finishContainer(ctx, c, judge(e))
}

// evidence gathers what tells how the VM ended: events first, then what libvirt, its
// log and the kernel remember.
func (s *Service) evidence(ctx context.Context, c vm.Container, d vm.Domain) exitEvidence {
	e := exitEvidence{main: c.Status.MainExit, stop: c.Status.Stop, hint: s.hints.get(c.SandboxID), reason: d.Reason, at: s.now()}
	if e.hint.reason != "" {
		e.reason = e.hint.reason
	}
	if !e.hint.at.IsZero() {
		e.at = e.hint.at
	}
	if !e.hint.seen && (e.stop == nil || !e.stop.Forced) {
		last, err := s.deps.Hypervisor.LastShutdown(ctx, c.SandboxID)
		// What was before this boot was another one's end.
		if err == nil && !last.At.Before(c.Booted().Truncate(time.Millisecond)) {
			e.reason, e.at = last.Reason, last.At
		}
	}
	if s.cfg.LibvirtCgroups {
		return e
	}
	sb, err := s.deps.Store.Sandboxes.Get(c.SandboxID)
	if err != nil {
		return e
	}
	usage, err := s.deps.Cgroups.Usage(ctx, sb.ID, sb.Spec.CgroupParent)
	if err != nil && !errors.Is(err, errdefs.ErrNotFound) {
		log.From(ctx).Warn("whether the VM was out of memory is not known", zap.String("sandbox", sb.ID), zap.Error(err))
	}
	e.oomKills = usage.OOMKills
	return e
}

// finishContainer ends what goes on with the guest and the log, frees the cgroup and records the exit, last: who sees
// the container exited finds its log complete.
func (s *Service) finishContainer(ctx context.Context, c vm.Container, exit vm.Exit) error {
	s.leave(c)
	finishCtx, cancel := context.WithTimeout(ctx, finishTimeout)
	defer cancel()
	if err := s.finishLog(finishCtx, c); err != nil {
		log.From(ctx).Warn("the end of the output is not in the log yet", zap.String("container", c.ID), zap.Error(err))
	}
	sb, err := s.deps.Store.Sandboxes.Get(c.SandboxID)
	if err != nil {
		return fmt.Errorf("end container %s: sandbox %s: %w", c.ID, c.SandboxID, err)
	}
	if err := s.removeCgroup(ctx, sb); err != nil {
		log.From(ctx).Warn("the VM's cgroup is left for the sandbox's stop", zap.String("sandbox", sb.ID), zap.Error(err))
	}
	return s.recordExit(ctx, c, exit)
}

// exitUnstarted ends a container that was created and never started.
func (s *Service) exitUnstarted(ctx context.Context, c vm.Container, reason, message string) error {
	if err := s.finishLog(ctx, c); err != nil {
		return fmt.Errorf("end container %s: %w", c.ID, err)
	}
	return s.recordExit(ctx, c, vm.Exit{Code: 128, Reason: reason, Message: message, At: s.now()})
}

func (s *Service) recordExit(ctx context.Context, c vm.Container, exit vm.Exit) error {
	if _, err := s.updateContainer(c.ID, "container exited", func(st vm.ContainerStatus) (vm.ContainerStatus, error) {
		st.Exit, st.Reboot, st.PowerOff, st.Restore = &exit, nil, nil, nil
		st.Paused, st.Rejoin = false, false
		return st.To(vm.ContainerExited)
	}); err != nil {
		return fmt.Errorf("end container %s: %w", c.ID, err)
	}
	s.hints.forget(c.SandboxID)
	s.powerOffs.forget(c.ID)
	s.sample.forget(c.ID)
	s.exits.announce(c.ID)
	log.From(ctx).Info("container exited", zap.String("sandbox", c.SandboxID), zap.String("container", c.ID),
		zap.Int32("code", exit.Code), zap.String("reason", exit.Reason))
	return nil
}

// exitWaiters lets goroutines wait for the exit of a container.
type exitWaiters struct {
	mu sync.Mutex
	m  map[string][]chan struct{}
}

// wait returns a channel that is closed when the container's exit is announced, and the
// function to call when the waiter no longer cares. Look at the state after calling it:
// an exit before that is not announced again.
func (w *exitWaiters) wait(containerID string) (<-chan struct{}, func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.m == nil {
		w.m = map[string][]chan struct{}{}
	}
	ch := make(chan struct{})
	w.m[containerID] = append(w.m[containerID], ch)
	return ch, func() { w.forget(containerID, ch) }
}

func (w *exitWaiters) forget(containerID string, ch chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	rest := w.m[containerID]
	for i, c := range rest {
		if c == ch {
			rest = append(rest[:i:i], rest[i+1:]...)
			break
		}
	}
	if len(rest) == 0 {
		delete(w.m, containerID)
		return
	}
	w.m[containerID] = rest
}

func (w *exitWaiters) announce(containerID string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, ch := range w.m[containerID] {
		close(ch)
	}
	delete(w.m, containerID)
}
