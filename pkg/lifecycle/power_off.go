// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/zap"

	"github.com/vmlet/vmlet/pkg/annotations"
	"github.com/vmlet/vmlet/pkg/log"
	"github.com/vmlet/vmlet/pkg/vm"
)

// powerOffWait is how long a guest may take to power off where the caller does not say.
const powerOffWait = 2 * time.Minute

// PowerOff ends the guest of a VM and keeps all that the pod has of it: disks, network, NICs, snapshots. What becomes of the
// container is the pod's policy (annotation vmlet.io/power-off): it is held, RUNNING as far as the CRI is concerned, until
// PowerOn boots it again; or it exits with ReasonPoweredOff. A guest that powers off unasked ends its container, as ever.
// ref is as in sandboxOf.
//
// A VM that is off is a success. FailedPrecondition for one that was never started, is being stopped, rebooted or restored,
// or is paused and is to be asked; DeadlineExceeded if the guest has not powered off in time and is not to be forced: the VM
// is left as it is, and nothing stays armed. A second call joins the first, and one that forces hurries it. A caller that
// goes away leaves the poweroff under way, and so does the end of vmlet.
func (s *Service) PowerOff(ctx context.Context, ref string, req vm.PowerOffRequest) (vm.PoweredOff, error) {
	if req.Mode == "" {
		req.Mode = vm.PowerOffGuest
	}
	if req.Wait == 0 {
		req.Wait = powerOffWait
	}
	sandboxID, err := s.sandboxOf(ref)
	if err != nil {
		return vm.PoweredOff{}, fmt.Errorf("power off: %w", err)
	}
	op, is, err := s.beginPowerOff(ctx, sandboxID, req)
	if err != nil {
		return is, fmt.Errorf("power off the VM of sandbox %s: %w", sandboxID, err)
	}
	if op == nil {
		return is, nil
	}
	select {
	case <-op.done:
		if op.err != nil {
			return vm.PoweredOff{}, fmt.Errorf("power off the VM of sandbox %s: %w", sandboxID, op.err)
		}
		return op.result, nil
	case <-ctx.Done():
		return vm.PoweredOff{}, fmt.Errorf("the poweroff of the VM of sandbox %s goes on without its caller: %w", sandboxID, ctx.Err())
	}
}

// beginPowerOff records the intent and begins to see it through, or joins the poweroff under way. It returns no poweroff for
// a VM that is off.
func (s *Service) beginPowerOff(ctx context.Context, sandboxID string, req vm.PowerOffRequest) (op *powerOff, is vm.PoweredOff, err error) {
	unlock, err := s.locks.Lock(ctx, sandboxID)
	if err != nil {
		return nil, is, err
	}
	defer unlock()
	c, live := s.liveContainer(sandboxID)
	if !live {
		is, err = s.offByExit(sandboxID)
		return nil, is, err
	}
	st := c.Status
	switch {
	case st.State != vm.ContainerRunning:
		return nil, is, fmt.Errorf("container %s is %s, and no VM runs: %w", c.ID, st.State, errdefs.ErrFailedPrecondition)
	case st.Off() && st.PowerOff.Booting:
		return nil, is, errTurningOn
	case st.Off():
		return nil, vm.PoweredOff{Policy: vm.PowerOffHeld, Forced: st.PowerOff.Forced}, nil
	case st.PowerOff != nil:
		op, err = s.joinPowerOff(c, req)
		return op, is, err
	}
	if err := settled(c); err != nil {
		return nil, is, err
	}
	if st.Paused && req.Mode != vm.PowerOffForce {
		return nil, is, fmt.Errorf("it is paused, and hears nothing; resume it first, or force it: %w", errdefs.ErrFailedPrecondition)
	}
	now := s.now()
	if c, err = s.recordPowerOff(c, "power off intended", &vm.PowerOff{
		ID: newID(), Mode: req.Mode, RequestedAt: now, Deadline: now.Add(req.Wait),
	}); err != nil {
		return nil, is, err
	}
	return s.goOnWithPowerOff(c, time.Now().Add(req.Wait)), is, nil //nolint:contextcheck // it outlives its caller
}

// offByExit is what is told of a VM whose container has ended.
func (s *Service) offByExit(sandboxID string) (vm.PoweredOff, error) {
	for _, c := range s.containersOf(sandboxID) {
		if c.Status.State == vm.ContainerExited && !c.Status.StartedAt.IsZero() {
			return vm.PoweredOff{Policy: vm.PowerOffExits}, nil
		}
	}
	return vm.PoweredOff{}, fmt.Errorf("no VM was started in it: %w", errdefs.ErrFailedPrecondition)
}

// joinPowerOff returns the poweroff under way, which is hurried if it is to be forced.
func (s *Service) joinPowerOff(c vm.Container, req vm.PowerOffRequest) (*powerOff, error) {
	op := s.powerOffs.of(c.ID)
	if op == nil || !op.stands(c) {
		return nil, fmt.Errorf("an earlier poweroff comes to its end just now, try again: %w", errdefs.ErrUnavailable)
	}
	if req.Mode != vm.PowerOffForce || c.Status.PowerOff.Mode == vm.PowerOffForce {
		return op, nil
	}
	next := *c.Status.PowerOff
	next.Mode = vm.PowerOffForce
	if _, err := s.recordPowerOff(c, "power off hurried", &next); err != nil {
		return nil, err
	}
	op.force()
	return op, nil
}

func (s *Service) recordPowerOff(c vm.Container, step string, intent *vm.PowerOff) (vm.Container, error) {
	return s.updateContainer(c.ID, step, func(st vm.ContainerStatus) (vm.ContainerStatus, error) {
		st.PowerOff = intent
		return st, nil
	})
}

// goOnWithPowerOff begins to see a recorded poweroff through.
func (s *Service) goOnWithPowerOff(c vm.Container, until time.Time) *powerOff {
	op := s.powerOffs.begin(c)
	if c.Status.PowerOff.Mode == vm.PowerOffForce || c.Status.PowerOff.Forced {
		op.force()
	}
	begun := s.work.Go(func() {
		err := s.observed("vm_power_off", func() error { return s.seePowerOffThrough(c, op, until) })
		s.powerOffs.finish(c.ID, op, err)
	})
	if !begun {
		s.powerOffs.finish(c.ID, op, errClosed)
	}
	return op
}

// resumePowerOff goes on with a poweroff of an earlier life whose VM still runs. Under the sandbox's lock.
func (s *Service) resumePowerOff(c vm.Container) {
	intent := c.Status.PowerOff
	if intent == nil || c.Status.Stop != nil || c.Status.Off() {
		return
	}
	s.goOnWithPowerOff(c, time.Now().Add(leftOf(intent.Deadline, intent.RequestedAt, s.now())))
}

// seePowerOffThrough asks the guest until it is off, and pulls the plug where that is wanted. It leaves no intent of a VM
// that runs on, unless vmlet ends before.
func (s *Service) seePowerOffThrough(c vm.Container, op *powerOff, until time.Time) error {
	ctx := log.With(s.life, zap.String("sandbox", c.SandboxID), zap.String("container", c.ID))
	gone, forget := s.exits.wait(c.ID)
	defer forget()
	late := time.NewTimer(time.Until(until))
	defer late.Stop()
	select {
	case <-op.hurry:
	default:
		asking, enough := context.WithCancel(ctx)
		defer enough()
		go func() { // an agent that is gone is not waited for
			<-op.enough
			enough()
		}()
		s.hastenExit(asking, c)
		op.press(s.askToGoDown(asking, c))
	}
	select {
	case <-op.off:
	case <-gone:
	case <-op.hurry:
	case <-late.C:
		op.calm()
		if c.Status.PowerOff.Mode == vm.PowerOffGuest && s.giveUpPowerOff(ctx, c, op) {
			return errNotOff
		}
	case <-ctx.Done():
		return fmt.Errorf("the poweroff goes on after the next start of vmlet: %w", errdefs.ErrUnavailable)
	}
	op.calm()
	if err := s.pullPlug(ctx, c, op); err != nil {
		s.work.Go(func() {
			again(ctx, "a VM that is to be powered off", func(ctx context.Context) error { return s.pullPlug(ctx, c, op) })
		})
		return fmt.Errorf("it goes on: %w", err)
	}
	return s.tellPowerOff(c, op)
}

// askToGoDown returns what presses the power button, and from the second time on asks the agent as well: the button reaches
// every guest that handles ACPI.
func (s *Service) askToGoDown(ctx context.Context, c vm.Container) func() {
	first := true
	return func() {
		s.pressButton(c)
		if !first {
			s.askAgent(ctx, c)
		}
		first = false
	}
}

// pullPlug destroys the VM of a poweroff that stands, if it is not off.
func (s *Service) pullPlug(ctx context.Context, c vm.Container, op *powerOff) error {
	ctx, cancel := context.WithTimeout(ctx, workTimeout)
	defer cancel()
	unlock, err := s.locks.Lock(ctx, c.SandboxID)
	if err != nil {
		return err
	}
	defer unlock()
	now, err := s.deps.Store.Containers.Get(c.ID)
	if errors.Is(err, errdefs.ErrNotFound) || err == nil && (!op.stands(now) || now.Status.Off() || now.Status.Stop != nil) {
		return nil
	}
	if err != nil {
		return err
	}
	if !now.Status.PowerOff.Forced {
		next := *now.Status.PowerOff
		next.Forced = true
		if now, err = s.recordPowerOff(now, "power off forced", &next); err != nil {
			return err
		}
	}
	if err := s.deps.Hypervisor.Destroy(ctx, c.SandboxID); err != nil {
		return err
	}
	return s.settleExit(ctx, now, vm.Domain{State: vm.DomainShutoff})
}

// tellPowerOff tells what came of a poweroff.
func (s *Service) tellPowerOff(c vm.Container, op *powerOff) error {
	now, err := s.deps.Store.Containers.Get(c.ID)
	switch {
	case errors.Is(err, errdefs.ErrNotFound):
		return errEndedInstead
	case err != nil:
		return err
	case now.Status.Off():
		op.result = vm.PoweredOff{Policy: vm.PowerOffHeld, Forced: now.Status.PowerOff.Forced}
		return nil
	case now.Status.State == vm.ContainerRunning:
		return fmt.Errorf("it is being stopped: %w", errdefs.ErrFailedPrecondition)
	case now.Status.Exit == nil || now.Status.Exit.Reason != vm.ReasonPoweredOff:
		return errEndedInstead
	}
	op.result = vm.PoweredOff{Policy: vm.PowerOffExits, Forced: now.Status.Exit.Code != 0}
	return nil
}

// giveUpPowerOff forgets the intent of a poweroff that came too late, unless it is to be forced meanwhile: from now on a
// poweroff of the guest is the end of its container. That of a guest which has just powered off is settled as it was meant.
func (s *Service) giveUpPowerOff(ctx context.Context, c vm.Container, op *powerOff) bool {
	hurried, err := s.disarmPowerOff(ctx, c, op)
	if err != nil {
		s.work.Go(func() {
			again(ctx, "a poweroff that is over", func(ctx context.Context) error {
				_, err := s.disarmPowerOff(ctx, c, op)
				return err
			})
		})
	}
	return !hurried
}

// disarmPowerOff does the work of giveUpPowerOff. hurried says that somebody wants the plug pulled by now.
func (s *Service) disarmPowerOff(ctx context.Context, c vm.Container, op *powerOff) (hurried bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, workTimeout)
	defer cancel()
	unlock, err := s.locks.Lock(ctx, c.SandboxID)
	if err != nil {
		return false, err
	}
	defer unlock()
	now, err := s.deps.Store.Containers.Get(c.ID)
	if errors.Is(err, errdefs.ErrNotFound) {
		return false, nil
	}
	if err != nil || !op.stands(now) || now.Status.Off() {
		return false, err
	}
	if now.Status.PowerOff.Mode == vm.PowerOffForce {
		return true, nil
	}
	d, err := s.deps.Hypervisor.Domain(ctx, c.SandboxID)
	if err != nil || !d.State.Active() {
		return false, err
	}
	_, err = s.recordPowerOff(now, "power off over", nil)
	return false, err
}

// poweredOffBy tells whether the end of a VM is what its poweroff wanted. What else may end a VM, a stop above all, ends its
// container.
func poweredOffBy(c vm.Container, e exitEvidence) bool {
	intent := c.Status.PowerOff
	if intent == nil || c.Status.Stop != nil || c.Status.MainExit != nil {
		return false
	}
	if intent.Forced {
		return true
	}
	inTime := intent.Mode != vm.PowerOffGuest || !e.at.After(intent.Deadline)
	return inTime && judge(e).Reason == vm.ReasonCompleted
}

// goDown settles a VM that a poweroff has ended: its container is held, or exits. Under the sandbox's lock.
func (s *Service) goDown(ctx context.Context, c vm.Container, e exitEvidence) error {
	if err := s.powerOffs.calmed(ctx, c.ID); err != nil {
		return err
	}
	sb, err := s.deps.Store.Sandboxes.Get(c.SandboxID)
	if err != nil {
		return err
	}
	if powerOffPolicy(sb) == vm.PowerOffExits {
		return s.finishContainer(ctx, c, exitOfPowerOff(c, e.at))
	}
	s.leave(c)
	if err := s.removeCgroup(ctx, sb); err != nil {
		log.From(ctx).Warn("the VM's cgroup is left for its next boot", zap.String("sandbox", sb.ID), zap.Error(err))
	}
	if _, err := s.updateContainer(c.ID, "vm powered off", func(st vm.ContainerStatus) (vm.ContainerStatus, error) {
		if st.PowerOff == nil {
			return st, fmt.Errorf("the poweroff is not on record any more: %w", errdefs.ErrAborted)
		}
		next := *st.PowerOff
		next.OffAt = e.at
		st.PowerOff, st.Paused = &next, false
		return st, nil
	}); err != nil {
		return err
	}
	s.hints.forget(sb.ID)
	s.sample.soon()
	if op := s.powerOffs.of(c.ID); op != nil {
		op.wentOff()
	}
	log.From(ctx).Info("the VM is powered off, and its container is held", zap.String("sandbox", sb.ID), zap.String("container", c.ID))
	return nil
}

// powerOffPolicy is what becomes of a container whose VM is powered off.
func powerOffPolicy(sb vm.Sandbox) vm.PowerOffPolicy {
	if ask, err := annotations.Parse(sb.Spec.AllSettings()); err == nil && ask.PowerOff != "" { // they were read before, and are as they were
		return ask.PowerOff
	}
	return vm.PowerOffHeld
}

// exitOfPowerOff is how a container ends whose VM was powered off at that time.
func exitOfPowerOff(c vm.Container, at time.Time) vm.Exit {
	exit := vm.Exit{Reason: vm.ReasonPoweredOff, Message: "the VM was powered off by PowerOff, and its guest went down in its own way", At: at}
	if c.Status.PowerOff.Forced {
		exit.Code, exit.Message = 137, "the VM was powered off by PowerOff, which pulled its plug"
	}
	return exit
}

// endOff ends a container whose VM is off. Under the sandbox's lock.
func (s *Service) endOff(ctx context.Context, c vm.Container) error {
	if c.Status.PowerOff.Booting { // what there is of the boot nobody was told of
		if err := s.deps.Hypervisor.Destroy(ctx, c.SandboxID); err != nil {
			return err
		}
	}
	return s.finishContainer(ctx, c, exitOfPowerOff(c, c.Status.PowerOff.OffAt))
}
