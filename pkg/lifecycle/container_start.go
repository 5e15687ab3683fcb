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

// StartContainer boots the VM: QEMU with its CPUs halted, its memory and CPU charged to
// the pod, its taps wired into the pod's network, then the CPUs let go. It does not
// wait for the guest. Starting a running container is a success; one that has exited
// is FailedPrecondition.
func (s *Service) StartContainer(ctx context.Context, ref string) error {
	c, err := s.Container(ref)
	if err != nil {
		return err
	}
	return s.shareErr(ctx, "start container "+c.ID, func(ctx context.Context) error {
		return s.observed("container_start", func() error {
			unlock, err := s.locks.Lock(ctx, c.SandboxID)
			if err != nil {
				return err
			}
			defer unlock()
			return s.startContainer(ctx, c.ID)
		})
	})
}

// startContainer does the work of StartContainer under the sandbox's lock. Recovery
// calls it for a start that was cut short: each step finds what is done already.
func (s *Service) startContainer(ctx context.Context, id string) error {
	c, err := s.deps.Store.Containers.Get(id)
	if err != nil {
		return fmt.Errorf("start container %s: %w", id, err)
	}
	if c.Status.State == vm.ContainerRunning {
		return nil
	}
	sb, err := s.deps.Store.Sandboxes.Get(c.SandboxID)
	if err != nil {
		return fmt.Errorf("start container %s: sandbox %s: %w", id, c.SandboxID, err)
	}
	if sb.Status.State != vm.SandboxReady {
		return fmt.Errorf("start container %s: sandbox %s is %s, not ready: %w", id, sb.ID, sb.Status.State, errdefs.ErrFailedPrecondition)
	}
	if _, err := s.updateContainer(id, "container starting", func(st vm.ContainerStatus) (vm.ContainerStatus, error) {
		return st.To(vm.ContainerStarting)
	}); err != nil {
		return fmt.Errorf("start container %s: %w", id, err)
	}
	s.hints.forget(sb.ID)
	if sb, err = s.trueDefinition(ctx, sb.ID); err != nil {
		return errors.Join(fmt.Errorf("start container %s: %w", id, err), s.failStart(ctx, c, err))
	}
	if err := s.bootVM(ctx, sb, c); err != nil {
		return errors.Join(fmt.Errorf("start container %s: %w", id, err), s.failStart(ctx, c, err))
	}
	s.forgetMemory(ctx, c)
	s.attend(sb, c) //nolint:contextcheck // it lives as long as the container or we do
	if from := c.Status.Checkpoint; from != nil && from.Pending {
		s.mendClock(c) //nolint:contextcheck // it outlives the call
	}
	s.sample.soon()
	return nil
}

// bootVM brings the domain from defined to running.
func (s *Service) bootVM(ctx context.Context, sb vm.Sandbox, c vm.Container) (err error) {
	rev := revert.New(ctx)
	defer rev.Fail(&err) //nolint:contextcheck // it has ctx since New

	if err := s.follow(ctx, c); err != nil {
		return err
	}
	if !s.cfg.LibvirtCgroups {
		rev.Add("cgroup", func(ctx context.Context) error { return s.removeCgroup(ctx, sb) })
	}
	// An earlier boot's group that could not be removed: its OOM kills are not ours.
	if err := s.prepareHost(ctx, sb, c, c.Status.State == vm.ContainerCreated); err != nil {
		return err
	}
	rev.Add("domain start", func(ctx context.Context) error { return s.deps.Hypervisor.Destroy(ctx, sb.ID) })
	if err := s.launch(ctx, sb, c); err != nil {
		return err
	}
	startedAt := s.now()
	if _, err := s.updateContainer(c.ID, "container running", func(st vm.ContainerStatus) (vm.ContainerStatus, error) {
		st.StartedAt = startedAt
		return st.To(vm.ContainerRunning)
	}); err != nil {
		return err
	}
	rev.Success()
	return nil
}

// prepareHost makes what QEMU is to find: the tree of the share, the NICs that have changed since the machine was made, and
// the VM's cgroup, anew if there is no QEMU in it.
func (s *Service) prepareHost(ctx context.Context, sb vm.Sandbox, c vm.Container, anew bool) error {
	if len(c.Status.Shares) > 0 {
		// Made with the container. What a restart of a vmlet with a mount namespace of its own
		// has lost is made again.
		if _, err := s.deps.Shares.Create(ctx, sb.ID, c.Status.Shares); err != nil {
			return fmt.Errorf("shares: %w", err)
		}
	}
	if err := s.alignNICs(ctx, sb, c); err != nil {
		return fmt.Errorf("give the machine its NICs: %w", err)
	}
	if s.cfg.LibvirtCgroups {
		return nil
	}
	if anew {
		if err := s.removeCgroup(ctx, sb); err != nil {
			return fmt.Errorf("remove an earlier cgroup: %w", err)
		}
	}
	if err := s.deps.Cgroups.Create(ctx, sb.ID, sb.Spec.CgroupParent, groupLimits(sb, c, s.Accel())); err != nil {
		return fmt.Errorf("make the cgroup: %w", err)
	}
	return nil
}

// launch makes QEMU, has it join the pod and lets the guest run. What was done of it before is not done again.
func (s *Service) launch(ctx context.Context, sb vm.Sandbox, c vm.Container) error {
	if err := s.launchHalted(ctx, sb, c); err != nil {
		return err
	}
	if err := s.recordMemoryTaken(c); err != nil {
		return err
	}
	if err := s.deps.Hypervisor.Resume(ctx, sb.ID); err != nil {
		return fmt.Errorf("let the guest run: %w", err)
	}
	return nil
}

// launchHalted is launch but for letting the guest run.
func (s *Service) launchHalted(ctx context.Context, sb vm.Sandbox, c vm.Container) error {
	if err := s.ensureStarted(ctx, c); err != nil {
		return fmt.Errorf("start the domain: %w", err)
	}
	return s.connect(ctx, sb, c)
}

// connect makes QEMU and what serves it a part of the pod, while the guest's CPUs are halted.
func (s *Service) connect(ctx context.Context, sb vm.Sandbox, c vm.Container) error {
	if err := s.joinPod(ctx, sb); err != nil {
		return err
	}
	if len(c.Status.Shares) > 0 {
		return s.placeHelpers(ctx, sb)
	}
	return nil
}

// ensureStarted starts the domain unless a start that was cut short already did.
func (s *Service) ensureStarted(ctx context.Context, c vm.Container) error {
	id := c.SandboxID
	err := s.startDomain(ctx, c)
	if !errors.Is(err, errdefs.ErrFailedPrecondition) {
		return err
	}
	d, stateErr := s.deps.Hypervisor.Domain(ctx, id)
	if stateErr == nil && d.State.Active() {
		return nil
	}
	return errors.Join(err, stateErr)
}

// joinPod makes QEMU a part of the pod before the guest runs: of its cgroup and of its
// network. Both wait for the kernel (its RCU grace periods) more than they work, so they
// wait together.
func (s *Service) joinPod(ctx context.Context, sb vm.Sandbox) error {
	placed := beside(ctx, "place QEMU", func(ctx context.Context) error { return s.placeQEMU(ctx, sb) })
	defer func() { _ = placed() }() //nolint:errcheck // where the wiring failed: that is the error to tell
	if err := s.deps.Network.Wire(ctx, sb.Wiring()); err != nil {
		return fmt.Errorf("wire the network: %w", err)
	}
	return placed()
}

// placeQEMU charges QEMU to the pod before the guest touches its memory.
func (s *Service) placeQEMU(ctx context.Context, sb vm.Sandbox) error {
	if s.cfg.LibvirtCgroups {
		return nil
	}
	pid, err := s.deps.Hypervisor.PID(ctx, sb.ID)
	if err != nil {
		return fmt.Errorf("find QEMU: %w", err)
	}
	if err := s.deps.Cgroups.Place(ctx, sb.ID, sb.Spec.CgroupParent, pid); err != nil {
		return fmt.Errorf("place QEMU in the pod's cgroup: %w", err)
	}
	return nil
}

// placeHelpers charges the processes of the share to the pod as well.
func (s *Service) placeHelpers(ctx context.Context, sb vm.Sandbox) error {
	if s.cfg.LibvirtCgroups {
		return nil
	}
	pids, err := s.deps.Hypervisor.HelperPIDs(ctx, sb.ID)
	if err != nil {
		return fmt.Errorf("find the processes of the share: %w", err)
	}
	for _, pid := range pids {
		if err := s.deps.Cgroups.Place(ctx, sb.ID, sb.Spec.CgroupParent, pid); err != nil {
			return fmt.Errorf("place a process of the share in the pod's cgroup: %w", err)
		}
	}
	return nil
}

// failStart records that a start failed, also when it is for want of time. What the
// failed boot printed is in the log.
func (s *Service) failStart(ctx context.Context, c vm.Container, cause error) error {
	return s.finishContainer(context.WithoutCancel(ctx), c, vm.Exit{
		Code: 128, Reason: vm.ReasonStartError, Message: cause.Error(), At: s.now(),
	})
}
