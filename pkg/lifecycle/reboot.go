// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/zap"

	"github.com/vmlet/vmlet/pkg/log"
	"github.com/vmlet/vmlet/pkg/vm"
)

// rebootWait is how long a reboot is waited for where the caller does not say.
const rebootWait = 2 * time.Minute

// bootIDPatience is how long the agent may take to tell its boot ID before a reboot: a guest that has one tells at once.
const bootIDPatience = 2 * time.Second

// askTimeout bounds one request to the guest or to libvirt.
const askTimeout = 10 * time.Second

// Reboot has the guest of a VM boot anew and returns when that was seen: its agent tells another boot ID or, in a guest
// without vmlet-agent, libvirt has seen the machine begin again. The container runs on, with its disks and addresses;
// its command is started again in the new boot. ref is as in vmOf.
//
// FailedPrecondition for a VM that does not run or was asked to stop, Unavailable for one without the agent that was to
// be asked, DeadlineExceeded if no reboot was seen by then: the VM is left as it is, and whatever it does later is its
// own. A second call of the same mode, or of any, joins the first; one of another mode takes its place, and the first is
// Aborted. A caller that goes away leaves the reboot under way, and so does the end of vmlet.
//
// libvirt's own ACPI reboot is not used: where the guest ignores it, it stays armed, and a poweroff of weeks later is
// taken for its reboot.
func (s *Service) Reboot(ctx context.Context, ref string, req vm.RebootRequest) (vm.Rebooted, error) {
	if req.Wait == 0 {
		req.Wait = rebootWait
	}
	c, err := s.vmOf(ref)
	if err != nil {
		return vm.Rebooted{}, fmt.Errorf("reboot: %w", err)
	}
	op, err := s.beginReboot(ctx, c, req)
	if err != nil {
		return vm.Rebooted{}, fmt.Errorf("reboot the VM of sandbox %s: %w", c.SandboxID, err)
	}
	select {
	case <-op.done:
		if op.err != nil {
			return vm.Rebooted{}, fmt.Errorf("reboot the VM of sandbox %s: %w", c.SandboxID, op.err)
		}
		return op.result, nil
	case <-ctx.Done():
		return vm.Rebooted{}, fmt.Errorf("the reboot of the VM of sandbox %s goes on without its caller: %w", c.SandboxID, ctx.Err())
	}
}

// beginReboot records the intent and begins to see it through, or joins the reboot under way.
func (s *Service) beginReboot(ctx context.Context, c vm.Container, req vm.RebootRequest) (*reboot, error) {
	unlock, err := s.locks.Lock(ctx, c.SandboxID)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if c, err = s.running(c.ID); err != nil {
		return nil, err
	}
	if err := leaving(c); err != nil {
		return nil, err
	}
	switch {
	case c.Status.Restore != nil:
		return nil, s.notRestoring(c.SandboxID)
	case c.Status.Paused:
		return nil, fmt.Errorf("it is paused, resume it first: %w", errdefs.ErrFailedPrecondition)
	case c.Status.Reboot != nil && c.Status.Reboot.Booting:
		return nil, errBooting
	}
	if op := s.reboots.of(c.ID); op != nil && (req.Mode == op.mode || req.Mode == vm.RebootAny) {
		return op, nil
	}
	now := s.now()
	intent := vm.RebootIntent{ID: newID(), Mode: req.Mode, RequestedAt: now, Begin: now.Add(req.Delay), Deadline: now.Add(req.Delay + req.Wait)}
	if old := c.Status.Reboot; old != nil { // what it has asked for may still come
		intent.Pressed = old.Pressed || old.Asked && old.Mode == vm.RebootACPI
	}
	if c, err = s.recordReboot(c, "reboot intended", &intent); err != nil {
		return nil, err
	}
	begin := time.Now().Add(req.Delay)
	return s.goOnWithReboot(c, begin, begin.Add(req.Wait)), nil
}

func (s *Service) recordReboot(c vm.Container, step string, intent *vm.RebootIntent) (vm.Container, error) {
	return s.updateContainer(c.ID, step, func(st vm.ContainerStatus) (vm.ContainerStatus, error) {
		st.Reboot = intent
		return st, nil
	})
}

// goOnWithReboot begins to see a recorded reboot through, in place of the one under way.
func (s *Service) goOnWithReboot(c vm.Container, begin, until time.Time) *reboot {
	op := s.reboots.begin(s.life, c)
	begun := s.work.Go(func() {
		err := s.observed("vm_reboot", func() (err error) {
			op.result, err = s.seeRebootThrough(op.ctx, c, op, begin, until)
			return err
		})
		s.reboots.finish(c.ID, op, err)
	})
	if !begun {
		s.reboots.finish(c.ID, op, errClosed)
	}
	return op
}

// resumeReboot goes on with a reboot of an earlier life. Under the sandbox's lock.
func (s *Service) resumeReboot(ctx context.Context, c vm.Container) error {
	intent := c.Status.Reboot
	if intent == nil {
		return nil
	}
	if intent.Booting {
		return s.bootAgain(ctx, c)
	}
	now, first := s.now(), time.Now()
	begin := first.Add(leftOf(intent.Begin, intent.RequestedAt, now))
	until := first.Add(leftOf(intent.Deadline, intent.RequestedAt, now))
	s.goOnWithReboot(c, begin, until)
	return nil
}

// seeRebootThrough waits until it is time, asks the guest, and waits until it has booted anew. It leaves no intent behind,
// unless vmlet ends before.
func (s *Service) seeRebootThrough(ctx context.Context, c vm.Container, op *reboot, begin, until time.Time) (vm.Rebooted, error) {
	gone, forget := s.exits.wait(c.ID)
	defer forget()
	bounded, cancel := context.WithDeadlineCause(ctx, until, errNoReboot)
	defer cancel()
	stopWatching := make(chan struct{})
	defer close(stopWatching)
	go func() {
		select {
		case <-gone:
			op.end(errEndedInstead)
		case <-stopWatching:
		}
	}()

	did, err := s.rebootGuest(bounded, c, op, begin)
	op.calm()
	if err != nil && bounded.Err() != nil {
		err = context.Cause(bounded)
	}
	if s.life.Err() != nil {
		return did, fmt.Errorf("the reboot goes on after the next start of vmlet: %w", errdefs.ErrUnavailable)
	}
	if endErr := s.endReboot(context.WithoutCancel(ctx), c, op); endErr != nil {
		s.work.Go(func() { //nolint:contextcheck // it outlives the reboot
			again(log.With(s.life, zap.String("sandbox", c.SandboxID)), "a reboot that is over", func(ctx context.Context) error { return s.endReboot(ctx, c, op) })
		})
	}
	if err != nil && !errors.Is(err, errAnotherReboot) {
		s.tell(vm.VMEvent{SandboxID: c.SandboxID, Kind: vm.VMRebootFailedEvent, Message: err.Error()})
	}
	return did, err
}

func (s *Service) rebootGuest(ctx context.Context, c vm.Container, op *reboot, begin time.Time) (vm.Rebooted, error) {
	timer := time.NewTimer(time.Until(begin))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	if ctx.Err() == nil && op.before != nil {
		if err := op.before.calmed(ctx); err != nil {
			return vm.Rebooted{}, err
		}
	}
	if ctx.Err() != nil { // both may be: too late is too late
		return vm.Rebooted{}, ctx.Err()
	}
	intent, err := s.askToReboot(ctx, c, op)
	if err != nil {
		return vm.Rebooted{}, err
	}
	did := vm.Rebooted{Mode: intent.Mode, Was: intent.Was}
	did.Boot, err = s.awaitBoot(ctx, c, op, intent)
	return did, err
}

// askToReboot puts on record that the guest is asked, and asks it: once, also over restarts of vmlet, but for the power
// button, which is pressed until something comes of it.
func (s *Service) askToReboot(ctx context.Context, c vm.Container, op *reboot) (vm.RebootIntent, error) {
	intent := *c.Status.Reboot
	asked := intent.Asked
	if !asked {
		intent.Asked = true
		intent.Mode, intent.Was = s.chooseReboot(ctx, c, intent.Mode)
		if ctx.Err() != nil {
			return intent, ctx.Err()
		}
		op.drain()
		if err := s.withVM(ctx, "ask", c, func(_ context.Context, c vm.Container) error {
			switch {
			case c.Status.Stop != nil || c.Status.MainExit != nil:
				return fmt.Errorf("it is being stopped: %w", errdefs.ErrFailedPrecondition)
			case !op.stands(c):
				return errAnotherReboot
			}
			_, err := s.recordReboot(c, "reboot asked", &intent)
			return err
		}); err != nil {
			return intent, err
		}
	}
	once, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	switch {
	case intent.Mode == vm.RebootACPI:
		s.hastenExit(ctx, c)
		op.press(func() { s.pressButton(c) })
		return intent, nil
	case asked:
		return intent, nil
	case intent.Mode == vm.RebootAgent:
		return intent, s.deps.Guest.Reboot(once, c.SandboxID)
	default:
		return intent, s.deps.Hypervisor.Reset(once, c.SandboxID)
	}
}

// chooseReboot finds what the guest's boot ID is before the reboot, and the way for who has no wish.
func (s *Service) chooseReboot(ctx context.Context, c vm.Container, mode vm.RebootMode) (way vm.RebootMode, boot string) {
	ctx, cancel := context.WithTimeout(ctx, bootIDPatience)
	defer cancel()
	boot, err := s.deps.Guest.AwaitAgent(ctx, c.SandboxID)
	switch {
	case mode != vm.RebootAny:
		return mode, boot
	case err == nil:
		return vm.RebootAgent, boot
	}
	log.From(ctx).Debug("no vmlet-agent tells the boot ID", zap.Error(err))
	return vm.RebootACPI, ""
}

// pressButton presses it, and returns when libvirt has answered: a QEMU that hangs is not asked twice.
func (s *Service) pressButton(c vm.Container) {
	if err := s.deps.Hypervisor.PowerButton(s.life, c.SandboxID); err != nil {
		log.From(s.life).Debug("the power button was not pressed", zap.String("container", c.ID), zap.Error(err))
	}
}

// awaitBoot returns the boot ID once it is not the one of before. Where that is not known it returns "" once the machine
// began again: by ACPI that is another QEMU of ours, and else what libvirt has seen.
func (s *Service) awaitBoot(ctx context.Context, c vm.Container, op *reboot, asked vm.RebootIntent) (boot string, err error) {
	for {
		if asked.Was != "" {
			boot, err := s.deps.Guest.AwaitAgent(ctx, c.SandboxID)
			if err != nil || boot != asked.Was {
				return boot, err
			}
		}
		select {
		case <-op.news:
		case <-ctx.Done():
			return "", ctx.Err()
		}
		if asked.Was != "" {
			continue
		}
		now, err := s.deps.Store.Containers.Get(c.ID)
		if err != nil || asked.Mode != vm.RebootACPI || !now.Status.BootedAt.Equal(c.Status.BootedAt) {
			return "", err
		}
	}
}

// endReboot forgets the intent: from now on a poweroff is a poweroff. Another reboot's intent is left alone, and that of a
// guest which has powered off for this one: that is settled as it was meant.
func (s *Service) endReboot(ctx context.Context, c vm.Container, op *reboot) error {
	ctx, cancel := context.WithTimeout(ctx, workTimeout)
	defer cancel()
	unlock, err := s.locks.Lock(ctx, c.SandboxID)
	if err != nil {
		return err
	}
	defer unlock()
	now, err := s.deps.Store.Containers.Get(c.ID)
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil
	}
	if err != nil || !op.stands(now) || now.Status.Reboot.Booting {
		return err
	}
	d, err := s.deps.Hypervisor.Domain(ctx, c.SandboxID)
	if err != nil || !d.State.Active() {
		return err
	}
	_, err = s.recordReboot(now, "reboot over", nil)
	return err
}
