// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/revert"
	"github.com/vmlet/vmlet/pkg/vm"
)

// Pause halts the CPUs of a VM, which keeps its memory, its addresses and what it has open. Its container runs on as far
// as the CRI is concerned, though nothing in it answers. ref is as in vmOf. Pausing a paused VM is a success.
// FailedPrecondition while it is to stop, to reboot or to power off, Unavailable while it is resized.
func (s *Service) Pause(ctx context.Context, ref string) error {
	c, err := s.vmOf(ref)
	if err != nil {
		return fmt.Errorf("pause: %w", err)
	}
	return s.powerCall(ctx, "pause", c, s.pause)
}

// Resume lets the CPUs of a VM go on after Pause. ref is as in vmOf. Resuming a VM that runs is a success.
func (s *Service) Resume(ctx context.Context, ref string) error {
	c, err := s.vmOf(ref)
	if err != nil {
		return fmt.Errorf("resume: %w", err)
	}
	return s.powerCall(ctx, "resume", c, s.resume)
}

// powerCall does something to a VM that goes on when its caller goes away: libvirt would do it later, when it is undone.
func (s *Service) powerCall(ctx context.Context, what string, c vm.Container, do func(context.Context, vm.Container) error) error {
	return s.shareErr(ctx, what+" "+c.ID, func(ctx context.Context) error {
		return s.observed("vm_"+what, func() error { return s.withVM(ctx, what, c, do) })
	})
}

// withVM does something to a running container under its sandbox's lock.
func (s *Service) withVM(ctx context.Context, what string, c vm.Container, do func(context.Context, vm.Container) error) error {
	unlock, err := s.locks.Lock(ctx, c.SandboxID)
	if err != nil {
		return err
	}
	defer unlock()
	if c, err = s.running(c.ID); err == nil {
		err = do(ctx, c)
	}
	if err != nil {
		return fmt.Errorf("%s the VM of sandbox %s: %w", what, c.SandboxID, err)
	}
	return nil
}

func (s *Service) pause(ctx context.Context, c vm.Container) (err error) {
	if err := settled(c); err != nil { // what it was asked for it could not do
		return err
	}
	sb, err := s.deps.Store.Sandboxes.Get(c.SandboxID)
	if err != nil {
		return err
	}
	if err := s.betweenSnapshots(sb); err != nil { // libvirt would resume it at the end
		return err
	}
	rev := revert.New(ctx)
	defer rev.Fail(&err) //nolint:contextcheck // it has ctx since New
	if !c.Status.Paused {
		rev.Add("pause", func(ctx context.Context) error { return s.resume(ctx, c) })
	}
	if err := s.recordPaused(c, true); err != nil {
		return err
	}
	if err := s.deps.Hypervisor.Pause(ctx, c.SandboxID); err != nil {
		return err
	}
	rev.Success()
	s.tell(vm.VMEvent{SandboxID: c.SandboxID, Kind: vm.VMPausedEvent})
	return nil
}

// resume lets a VM go on, under the sandbox's lock.
func (s *Service) resume(ctx context.Context, c vm.Container) error {
	if c.Status.Reboot != nil && c.Status.Reboot.Booting {
		return errBooting // its network is not wired yet
	}
	if err := s.notRestoring(c.SandboxID); err != nil {
		return err // nor then
	}
	if err := s.deps.Hypervisor.Resume(ctx, c.SandboxID); err != nil {
		return err
	}
	if err := s.recordPaused(c, false); err != nil {
		return err
	}
	if c.Status.Paused {
		s.mendClock(c) //nolint:contextcheck // it outlives the call
	}
	if c.Status.Rejoin {
		s.rejoinLater(c.SandboxID) //nolint:contextcheck // as above
	}
	return nil
}

func (s *Service) recordPaused(c vm.Container, is bool) error {
	step := "vm resumed"
	if is {
		step = "vm paused"
	}
	_, err := s.updateContainer(c.ID, step, func(st vm.ContainerStatus) (vm.ContainerStatus, error) {
		st.Paused = is
		return st, nil
	})
	return err
}

// agreeOnPause makes the record of a VM that was to be paused true after a restart: what was recorded may not have been
// done, or undone and not recorded. It is left to run then: nobody was told that it is paused.
func (s *Service) agreeOnPause(ctx context.Context, c vm.Container) error {
	if !c.Status.Paused {
		return nil
	}
	d, err := s.deps.Hypervisor.Domain(ctx, c.SandboxID)
	if err != nil || d.State == vm.DomainPaused {
		return err
	}
	return s.recordPaused(c, false)
}

// letRun has a paused guest hear that it is to power off.
func (s *Service) letRun(ctx context.Context, c vm.Container) error {
	unlock, err := s.locks.Lock(ctx, c.SandboxID)
	if err != nil {
		return err
	}
	defer unlock()
	if c, err = s.running(c.ID); errors.Is(err, errdefs.ErrFailedPrecondition) || errors.Is(err, errdefs.ErrNotFound) || err == nil && !c.Status.Paused {
		return nil
	}
	if err != nil {
		return err
	}
	return s.resume(ctx, c)
}
