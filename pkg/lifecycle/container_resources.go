// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/annotations"
	"github.com/vmlet/vmlet/pkg/revert"
	"github.com/vmlet/vmlet/pkg/vm"
)

// UpdateContainerResources changes the limits of a container that runs or is to be started;
// what change leaves open stays. A VM that runs is given the CPUs and the memory that the limits
// ask for, within its headroom. What it cannot have, or its guest does not give back, is
// FailedPrecondition, as is a container that has ended. On an error all is as it was.
func (s *Service) UpdateContainerResources(ctx context.Context, ref string, change vm.Resources) error {
	c, err := s.Container(ref)
	if err != nil {
		return err
	}
	err = s.resizing(ctx, "update the resources of container "+c.ID, c.SandboxID, func(ctx context.Context) error {
		return s.observed("container_resources", func() error {
			return s.changeLimits(ctx, c.SandboxID, func() (bool, error) { return s.beginContainerResources(ctx, c.ID, change) })
		})
	})
	if err != nil {
		return fmt.Errorf("update the resources of container %s: %w", c.ID, err)
	}
	return nil
}

// changeLimits has begin change limits under the sandbox's lock, and sees the resize through that it has begun.
func (s *Service) changeLimits(ctx context.Context, sandboxID string, begin func() (begun bool, err error)) error {
	var begun bool
	err := s.locked(ctx, sandboxID, func() (err error) {
		begun, err = begin()
		return err
	})
	if err != nil || !begun {
		return err
	}
	_, err = s.finishResize(ctx, sandboxID)
	return err
}

// beginContainerResources does all of it where the machine keeps its size; else it begins to give it another one.
func (s *Service) beginContainerResources(ctx context.Context, id string, change vm.Resources) (begun bool, err error) {
	c, sb, err := s.resizable(id)
	if err != nil {
		return false, err
	}
	next := c
	limits := valueOr(c.Present().Resources).Merge(change)
	next.Status.Resources = &limits
	size, err := s.judgeResize(sb, c, limited{sb.Present(), next.Present()}, limited{sb.Present(), c.Present()})
	if err != nil {
		return false, err
	}
	if size != c.Status.Size && c.Status.Size != (vm.MachineSize{}) {
		terms := termsOf(sb, c)
		terms.Limits = &limits
		return true, s.beginResize(ctx, sb, c, s.wholeResize(sb, c, size, terms))
	}
	rev := revert.New(ctx)
	defer rev.Fail(&err) //nolint:contextcheck // it has ctx since New
	rev.Add("container resources", func(context.Context) error { return s.recordResources(id, c.Status.Resources) })
	if err := s.recordResources(id, &limits); err != nil {
		return false, err
	}
	if err := s.limit(ctx, sb, c, groupLimits(sb, next, s.Accel())); err != nil {
		return false, err
	}
	rev.Success()
	return false, nil
}

// resizable finds a container whose limits can be changed, with its sandbox.
func (s *Service) resizable(id string) (vm.Container, vm.Sandbox, error) {
	c, err := s.deps.Store.Containers.Get(id)
	if err != nil {
		return vm.Container{}, vm.Sandbox{}, err
	}
	if !c.Status.Live() {
		return vm.Container{}, vm.Sandbox{}, fmt.Errorf("it is %s: %w", c.Status.State, errdefs.ErrFailedPrecondition)
	}
	if s.cfg.LibvirtCgroups {
		return vm.Container{}, vm.Sandbox{}, fmt.Errorf("limits are in the domain's definition, since libvirt owns QEMU's cgroups (cgroups: libvirt), "+
			"and stay as the container was created with; create it anew: %w", errdefs.ErrFailedPrecondition)
	}
	sb, err := s.deps.Store.Sandboxes.Get(c.SandboxID)
	return c, sb, err
}

// judgeResize returns the size that the next limits ask for, and refuses those that the container's machine cannot have; is
// has limits that it does have.
func (s *Service) judgeResize(sb vm.Sandbox, c vm.Container, next limited, is ...limited) (vm.MachineSize, error) {
	ask, err := annotations.Parse(sb.Spec.AllSettings())
	if err != nil {
		return vm.MachineSize{}, err
	}
	size := c.Status.Size
	if size == (vm.MachineSize{}) { // nothing is known of its headroom
		if size, err = sizeOf(sb.Spec, c.Spec, ask, *s.defaults.Load(), s.Accel()); err != nil {
			return vm.MachineSize{}, err
		}
		size = vm.MachineSize{VCPUs: size.VCPUs, Memory: size.Memory}
	}
	if c.Status.State != vm.ContainerRunning { // the size of a machine is changed while it runs
		size.MaxVCPUs, size.MaxMemory, size.BootMemory = 0, 0, 0
	}
	to, err := resize{is: is, next: next, size: size, ask: asked(ask, c.Status.Asked), accel: s.Accel()}.judge()
	if err != nil || to == size {
		return c.Status.Size, err
	}
	return to, s.gateSize(sb, size, to)
}

func (s *Service) recordResources(id string, limits *vm.Resources) error {
	_, err := s.updateContainer(id, "container resources", func(st vm.ContainerStatus) (vm.ContainerStatus, error) {
		st.Resources = limits
		return st, nil
	})
	return err
}

// limit gives the group of a running VM other limits than those of the records of sb and c.
// Without a VM there is none: it gets them when it is made.
func (s *Service) limit(ctx context.Context, sb vm.Sandbox, c vm.Container, next vm.Resources) error {
	if !c.Status.Runs() {
		return nil
	}
	return s.deps.Cgroups.Update(ctx, sb.ID, sb.Spec.CgroupParent, groupLimits(sb, c, s.Accel()), next)
}

// limitAgain makes sure that a VM that runs on has the limits on record: what was recorded
// may not have been done when an earlier vmlet ended.
func (s *Service) limitAgain(ctx context.Context, sb vm.Sandbox, c vm.Container) error {
	if s.cfg.LibvirtCgroups || c.Status.Resize == nil && termsOf(sb, c) == (vm.ResizeTerms{}) {
		return nil
	}
	err := s.limit(ctx, sb, c, groupLimits(sb, c, s.Accel()))
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil // the VM has ended since
	}
	return err
}

func valueOr(r *vm.Resources) vm.Resources {
	if r == nil {
		return vm.Resources{}
	}
	return *r
}
