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

// endResize gives the machine what it can have by now, and puts that on record. An error that is errNotWhole says that it is
// being given up: the guest is to be waited for once more. Under the sandbox's lock.
func (s *Service) endResize(ctx context.Context, containerID string, intent vm.ResizeIntent) (short shortfall, err error) {
	c, err := s.deps.Store.Containers.Get(containerID)
	if err != nil {
		return short, err
	}
	if c.Status.Resize == nil || c.Status.Resize.ID != intent.ID {
		return short, nil
	}
	sb, err := s.deps.Store.Sandboxes.Get(c.SandboxID)
	if err != nil {
		return short, err
	}
	want := goal(intent)
	whole := intent.Whole && !intent.GivenUp
	live, short, err := s.grow(ctx, c, want, whole)
	switch {
	case errdefs.IsFailedPrecondition(err), errdefs.IsNotFound(err):
		return short, errors.Join(errEnded, s.keepSize(ctx, c))
	case err != nil:
		return short, err
	case errdefs.IsUnavailable(short.cpus):
		return short, short.cpus
	case errdefs.IsResourceExhausted(short.cpus) && s.now().Before(intent.Deadline):
		return short, errNotYet
	}
	if cause := errors.Join(short.memory, short.cpus); cause != nil && whole {
		return short, s.giveUpResize(ctx, sb, c, intent, cause)
	}
	return short, s.settleSize(ctx, sb, c, want, live)
}

// keepSize ends the resize of a VM that has ended meanwhile: its size is that on record. One that is booted again boots by
// the definition, which may have got CPUs already.
func (s *Service) keepSize(ctx context.Context, c vm.Container) error {
	size := c.Status.Size
	if c.Status.State == vm.ContainerRunning {
		err := s.deps.Hypervisor.DefineSize(ctx, c.SandboxID, size.VCPUs, size.Plugged())
		if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsFailedPrecondition(err) {
			return err
		}
	}
	return s.recordResized(c.ID, size)
}

// rest waits for a while.
func (s *Service) rest(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-s.life.Done():
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// grow adds the CPUs that a machine is to have, and returns what it has then and why that is not all. One that is to have all or
// nothing, and has not the memory, gets none. An error is that of a machine that cannot be looked at; FailedPrecondition or NotFound if
// there is none.
func (s *Service) grow(ctx context.Context, c vm.Container, want vm.MachineSize, whole bool) (live vm.LiveSize, short shortfall, err error) {
	if c.Status.State != vm.ContainerRunning {
		return live, short, errEnded
	}
	if whole && want.MaxMemory > 0 {
		live, err = s.deps.Hypervisor.LiveSize(ctx, c.SandboxID)
		if err != nil || live.Plugged != want.Plugged() {
			return live, shortfall{memory: shortOfMemory(want, live)}, err
		}
	}
	live, short.cpus = s.deps.Hypervisor.AddVCPUs(ctx, c.SandboxID, want.VCPUs)
	if short.cpus != nil {
		if live, err = s.deps.Hypervisor.LiveSize(ctx, c.SandboxID); err != nil { // some may have been added
			return live, short, err
		}
	}
	if live.Plugged != want.Plugged() {
		short.memory = shortOfMemory(want, live)
	}
	return live, short, nil
}

func shortOfMemory(want vm.MachineSize, live vm.LiveSize) error {
	has := (want.Boot() + live.Plugged) / vm.MiB
	if live.Plugged > want.Plugged() {
		return fmt.Errorf("the guest has given back memory down to %d MiB in the time it had, and keeps what it uses and some room: %w", has, errdefs.ErrFailedPrecondition)
	}
	return fmt.Errorf("the guest has taken memory up to %d MiB in the time it had; it needs the driver virtio_mem, and memory blocks that come online by themselves: %w",
		has, errdefs.ErrFailedPrecondition)
}

// giveUpResize begins to undo a resize that is whole or not at all.
func (s *Service) giveUpResize(ctx context.Context, sb vm.Sandbox, c vm.Container, intent vm.ResizeIntent, cause error) error {
	now := s.now()
	intent.GivenUp, intent.Begun, intent.Deadline = true, now, now.Add(giveUpWait)
	if err := s.pushResize(ctx, sb, c, intent); err != nil {
		return err
	}
	return fmt.Errorf("%w; %w", cause, errNotWhole)
}

// settleSize makes what a machine has by now its size: for the guest, which is to change its memory no more, for the next
// boot, for the record and for the group.
func (s *Service) settleSize(ctx context.Context, sb vm.Sandbox, c vm.Container, want vm.MachineSize, live vm.LiveSize) error {
	intent := *c.Status.Resize
	keeps := live.Plugged
	if keeps > want.Plugged() {
		keeps = min(keeps+breath, max(intent.From.Plugged(), keeps))
	}
	size := want
	size.VCPUs, size.Memory = live.VCPUs, want.Boot()+keeps
	if want.MaxMemory > 0 && live.Requested != keeps {
		if err := s.deps.Hypervisor.RequestMemory(ctx, sb.ID, keeps); err != nil {
			return err
		}
	}
	if err := s.narrow(ctx, sb, c, size); err != nil {
		if intent.Whole && !intent.GivenUp && !errdefs.IsUnavailable(err) {
			return s.giveUpResize(ctx, sb, c, intent, err)
		}
		// It has more room than it is to have. What is on record is true, and each start of vmlet tries again.
		log.From(ctx).Warn("the limits of a VM that was resized are not narrowed yet", zap.String("sandbox", sb.ID), zap.Error(err))
	}
	// AddVCPUs has defined what it added, and looking whether it has takes as long as all else here.
	if defined := size == intent.To && size.Memory == intent.From.Memory && !intent.GivenUp; !defined {
		if err := s.deps.Hypervisor.DefineSize(ctx, sb.ID, size.VCPUs, size.Plugged()); err != nil {
			return err
		}
	}
	if err := s.recordResized(c.ID, size); err != nil {
		return err
	}
	if size.VCPUs != intent.From.VCPUs || size.Memory != intent.From.Memory {
		s.tell(vm.VMEvent{SandboxID: sb.ID, Kind: vm.VMResizedEvent})
	}
	return nil
}

// narrow gives the group the room for the size that its VM has now, and no more.
func (s *Service) narrow(ctx context.Context, sb vm.Sandbox, c vm.Container, size vm.MachineSize) error {
	if s.cfg.LibvirtCgroups {
		return nil
	}
	before := groupLimits(sb, c, s.Accel())
	c.Status.Size, c.Status.Resize = size, nil
	after := groupLimits(sb, c, s.Accel())
	if after.Equal(before) {
		return nil
	}
	return s.deps.Cgroups.Update(ctx, sb.ID, sb.Spec.CgroupParent, before, after)
}

func (s *Service) recordResized(containerID string, size vm.MachineSize) error {
	_, err := s.updateContainer(containerID, "vm resized", func(st vm.ContainerStatus) (vm.ContainerStatus, error) {
		st.Size, st.Resize = size, nil
		return st, nil
	})
	return err
}
