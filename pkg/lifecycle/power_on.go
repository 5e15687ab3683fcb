// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"go.uber.org/zap"

	"github.com/vmlet/vmlet/pkg/annotations"
	"github.com/vmlet/vmlet/pkg/log"
	"github.com/vmlet/vmlet/pkg/revert"
	"github.com/vmlet/vmlet/pkg/vm"
)

// PowerOn boots a VM that PowerOff has ended and whose container is held: another QEMU on the same disks, addresses and log,
// as they are by now. It does not wait for the guest. ref is as in sandboxOf.
//
// A VM that runs is a success. FailedPrecondition for one whose container has ended, with what to do, and for one that is
// being powered off. After another error it is off as before. A caller that goes away leaves the boot under way, and so does
// the end of vmlet.
func (s *Service) PowerOn(ctx context.Context, ref string, req vm.PowerOnRequest) error {
	sandboxID, err := s.sandboxOf(ref)
	if err != nil {
		return fmt.Errorf("power on: %w", err)
	}
	err = s.shareErr(ctx, fmt.Sprintf("power on %s %t", sandboxID, req.Paused), func(ctx context.Context) error {
		return s.observed("vm_power_on", func() error {
			unlock, err := s.locks.Lock(ctx, sandboxID)
			if err != nil {
				return err
			}
			defer unlock()
			return s.powerOn(ctx, sandboxID, req)
		})
	})
	if err != nil {
		return fmt.Errorf("power on the VM of sandbox %s: %w", sandboxID, err)
	}
	return nil
}

// powerOn does the work of PowerOn under the sandbox's lock.
func (s *Service) powerOn(ctx context.Context, sandboxID string, req vm.PowerOnRequest) error {
	sb, err := s.deps.Store.Sandboxes.Get(sandboxID)
	if err != nil {
		return err
	}
	c, err := s.heldOff(sb)
	if err != nil {
		return err
	}
	switch st := c.Status; {
	case st.Off():
	case st.PowerOff != nil:
		return fmt.Errorf("it is being powered off: %w", errdefs.ErrFailedPrecondition)
	case req.Paused && !st.Paused:
		return fmt.Errorf("it runs already; pause it: %w", errdefs.ErrFailedPrecondition)
	default:
		return nil
	}
	if sb.Status.State != vm.SandboxReady {
		return fmt.Errorf("the sandbox is %s, not ready: %w", sb.Status.State, errdefs.ErrFailedPrecondition)
	}
	now := s.now()
	if !c.Status.PowerOff.Booting { // else of a call that could not
		next := *c.Status.PowerOff
		next.Booting, next.Paused = true, req.Paused
		if c, err = s.updateContainer(c.ID, "power on intended", func(st vm.ContainerStatus) (vm.ContainerStatus, error) {
			st.PowerOff, st.BootedAt = &next, now
			return st, nil
		}); err != nil {
			return err
		}
	}
	err = s.turnOn(ctx, c)
	if errors.Is(err, revert.ErrIncomplete) {
		s.work.Go(func() { s.look(s.life, sandboxID) })
		err = fmt.Errorf("it goes on: %w", err)
	}
	return err
}

// heldOff finds the container whose VM is to be powered on, or says what to do instead.
func (s *Service) heldOff(sb vm.Sandbox) (vm.Container, error) {
	c, live := s.liveContainer(sb.ID)
	switch {
	case live && c.Status.State == vm.ContainerRunning:
		return c, nil
	case live:
		return c, fmt.Errorf("container %s is %s, and was not powered off; it is started by StartContainer of the CRI: %w",
			c.ID, c.Status.State, errdefs.ErrFailedPrecondition)
	}
	return c, fmt.Errorf("its container has ended, and a VM is powered on only while its container is held; "+
		"start another container in the sandbox, as a kubelet does by the pod's restartPolicy, and for the next time run the pod with annotation %s: %s: %w",
		annotations.PowerOff, vm.PowerOffHeld, errdefs.ErrFailedPrecondition)
}

// turnOn does what is left to do of a recorded power on, or takes it back. Under the sandbox's lock.
func (s *Service) turnOn(ctx context.Context, c vm.Container) (err error) {
	if err := s.powerOffs.calmed(ctx, c.ID); err != nil {
		return err
	}
	sb, err := s.deps.Store.Sandboxes.Get(c.SandboxID)
	if err != nil {
		return err
	}
	rev := revert.New(ctx)
	defer rev.Fail(&err) //nolint:contextcheck // it has ctx since New
	rev.Add("power on", func(ctx context.Context) error { return s.turnOffAgain(ctx, sb, c) })
	s.hints.forget(sb.ID)
	if err := s.follow(ctx, c); err != nil { // after a restart of vmlet nobody does yet
		return err
	}
	paused := c.Status.PowerOff.Paused
	if err := s.relaunch(ctx, sb, c, paused); err != nil {
		return err
	}
	if c, err = s.updateContainer(c.ID, "vm powered on", func(st vm.ContainerStatus) (vm.ContainerStatus, error) {
		st.PowerOff, st.Paused = nil, paused
		return st, nil
	}); err != nil {
		return err
	}
	rev.Success()
	s.attend(sb, c) //nolint:contextcheck // it lives as long as the container or we do
	log.From(ctx).Info("the VM was powered on", zap.String("sandbox", sb.ID), zap.String("container", c.ID))
	if paused {
		s.tell(vm.VMEvent{SandboxID: sb.ID, Kind: vm.VMPausedEvent})
	}
	s.sample.soon()
	return nil
}

// turnOffAgain takes a power on back: the VM is off as before.
func (s *Service) turnOffAgain(ctx context.Context, sb vm.Sandbox, c vm.Container) error {
	if err := s.deps.Hypervisor.Destroy(ctx, sb.ID); err != nil {
		return err
	}
	if err := s.removeCgroup(ctx, sb); err != nil {
		return err
	}
	next := *c.Status.PowerOff
	next.Booting, next.Paused = false, false
	if _, err := s.recordPowerOff(c, "power on undone", &next); err != nil {
		return err
	}
	s.hints.forget(sb.ID)
	return nil
}

// keepOff goes on, after a restart, with a container whose VM is off: its log is written on, and a power on that was cut
// short is finished. Under the sandbox's lock.
func (s *Service) keepOff(ctx context.Context, c vm.Container) error {
	if err := s.follow(ctx, c); err != nil || !c.Status.PowerOff.Booting {
		return err
	}
	return s.turnOn(ctx, c)
}

// losePowerOn forgets a power on in a sandbox whose network is gone: its VM is off.
func (s *Service) losePowerOn(ctx context.Context, sb vm.Sandbox) error {
	c, live := s.liveContainer(sb.ID)
	if !live || !c.Status.Off() || !c.Status.PowerOff.Booting {
		return nil
	}
	return s.turnOffAgain(ctx, sb, c)
}
