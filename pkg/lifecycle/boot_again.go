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
	return intent.Asked && intent.Mode == vm.RebootACPI && judge(e).Reason == vm.ReasonCompleted && !e.at.After(intent.Deadline)
}

// bootAgain gives a container whose guest has powered off to boot anew another QEMU, on the same disks, addresses, cgroup
// and log. Under the sandbox's lock. It does what is left to do of an earlier try. The container exits if it cannot be
// done; where libvirt is away it is tried again.
func (s *Service) bootAgain(ctx context.Context, c vm.Container) error {
	if op := s.reboots.of(c.ID); op != nil {
		op.calm()
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
	if err := s.launch(ctx, sb, c); err != nil {
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
	s.sample.soon()
	return nil
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
