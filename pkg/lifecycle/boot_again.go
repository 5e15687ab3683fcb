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

// rebootsBy tells whether the end of a VM is its guest's answer to the power button of a reboot: the guest has powered
// itself off while it was asked to. What else may end a VM, a stop above all, ends its container.
func rebootsBy(c vm.Container, e exitEvidence) bool {
	intent := c.Status.Reboot
	if intent == nil || c.Status.Stop != nil || c.Status.MainExit != nil {
		return false
	}
	if intent.Booting {
		return true // it was judged before
	}
	pressed := intent.Pressed || intent.Asked && intent.Mode == vm.RebootACPI
	return pressed && judge(e).Reason == vm.ReasonCompleted && !e.at.After(intent.Deadline)
}

// bootAgain gives a container whose guest has powered off to boot anew another QEMU, on the same disks, addresses and log.
// Under the sandbox's lock. It does what is left to do of an earlier try. The container exits if it cannot be done, or was
// asked to stop meanwhile; where libvirt is away it is tried again.
func (s *Service) bootAgain(ctx context.Context, c vm.Container) error {
	if c.Status.Stop != nil {
		return s.destroyContainer(ctx, c)
	}
	if op := s.reboots.of(c.ID); op != nil {
		if err := op.calmed(ctx); err != nil {
			return err
		}
	}
	sb, err := s.deps.Store.Sandboxes.Get(c.SandboxID)
	if err != nil {
		return err
	}
	if c, err = s.recordBooting(c); err != nil {
		return err
	}
	s.hints.forget(sb.ID)
	if err := s.follow(ctx, c); err != nil { // after a restart of vmlet nobody does yet
		return err
	}
	if err := s.relaunch(ctx, sb, c, false); err != nil {
		if errdefs.IsUnavailable(err) || ctx.Err() != nil {
			return fmt.Errorf("boot sandbox %s again: %w", sb.ID, err)
		}
		return s.giveUpBooting(ctx, c, err)
	}
	if _, err := s.recordReboot(c, "vm booted again", nil); err != nil {
		return err
	}
	s.attend(sb, c) //nolint:contextcheck // it lives as long as the container or we do
	log.From(ctx).Info("the guest powered off to reboot and was booted again", zap.String("sandbox", sb.ID), zap.String("container", c.ID))
	s.reboots.tell(sb.ID)
	s.tell(vm.VMEvent{SandboxID: sb.ID, Kind: vm.VMRebootedEvent})
	s.sample.soon()
	return nil
}

// relaunch does what bootVM does of a boot's work on the host, as far as it is not done. The guest's CPUs stay halted if
// paused.
func (s *Service) relaunch(ctx context.Context, sb vm.Sandbox, c vm.Container, paused bool) error {
	d, err := s.deps.Hypervisor.Domain(ctx, sb.ID)
	if err != nil {
		return err
	}
	if !d.State.Active() {
		if sb, err = s.trueDefinition(ctx, sb.ID); err != nil {
			return err
		}
	}
	if err := s.prepareHost(ctx, sb, c, !d.State.Active()); err != nil {
		return err
	}
	if paused {
		return s.launchHalted(ctx, sb, c)
	}
	return s.launch(ctx, sb, c)
}

func (s *Service) recordBooting(c vm.Container) (vm.Container, error) {
	if c.Status.Reboot.Booting {
		return c, nil
	}
	now := s.now()
	return s.updateContainer(c.ID, "vm boots again", func(st vm.ContainerStatus) (vm.ContainerStatus, error) {
		next := *st.Reboot
		next.Booting = true
		st.Reboot, st.BootedAt = &next, now
		return st, nil
	})
}

// giveUpBooting ends a container whose VM cannot be booted again.
func (s *Service) giveUpBooting(ctx context.Context, c vm.Container, cause error) error {
	if err := s.deps.Hypervisor.Destroy(ctx, c.SandboxID); err != nil {
		return errors.Join(cause, err)
	}
	return s.failStart(ctx, c, fmt.Errorf("the guest powered off to reboot and could not be booted again: %w", cause))
}

// bootAgainLater goes on with booting a VM again where recovery could not: nobody else would.
func (s *Service) bootAgainLater(sandboxID string) {
	if c, ok := s.liveContainer(sandboxID); ok && (c.Status.Restore != nil || c.Status.Reboot != nil && c.Status.Reboot.Booting || c.Status.PowerOff != nil && c.Status.PowerOff.Booting) {
		s.work.Go(func() { s.look(s.life, sandboxID) })
	}
}

// dropReboots forgets the reboots and restores of a sandbox whose VM cannot be booted again: its network is gone.
func (s *Service) dropReboots(ctx context.Context, sandboxID string) error {
	for _, c := range s.containersOf(sandboxID) {
		if c.Status.Restore != nil {
			if err := s.giveUpDisk(ctx, c); err != nil {
				return err
			}
		}
		if c.Status.Reboot == nil {
			continue
		}
		if _, err := s.recordReboot(c, "reboot lost", nil); err != nil {
			return err
		}
	}
	return nil
}
