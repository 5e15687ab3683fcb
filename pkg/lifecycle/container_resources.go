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
// what change leaves open stays. The machine keeps its size: what would need another one is
// FailedPrecondition, as is a container that has ended. On an error all is as it was.
func (s *Service) UpdateContainerResources(ctx context.Context, ref string, change vm.Resources) error {
	c, err := s.Container(ref)
	if err != nil {
		return err
	}
	return s.observed("container_resources", func() error {
		unlock, err := s.locks.Lock(ctx, c.SandboxID)
		if err != nil {
			return err
		}
		defer unlock()
		if err := s.updateContainerResources(ctx, c.ID, change); err != nil {
			return fmt.Errorf("update the resources of container %s: %w", c.ID, err)
		}
		return nil
	})
}

func (s *Service) updateContainerResources(ctx context.Context, id string, change vm.Resources) (err error) {
	c, sb, err := s.resizable(id)
	if err != nil {
		return err
	}
	next := c
	limits := valueOr(c.Present().Resources).Merge(change)
	next.Status.Resources = &limits
	if err := s.judgeResize(sb, c, limited{sb.Present(), next.Present()}, limited{sb.Present(), c.Present()}); err != nil {
		return err
	}
	rev := revert.New(ctx)
	defer rev.Fail(&err) //nolint:contextcheck // it has ctx since New
	rev.Add("container resources", func(context.Context) error { return s.recordResources(id, c.Status.Resources) })
	if err := s.recordResources(id, &limits); err != nil {
		return err
	}
	if err := s.limit(ctx, sb, c, cgroupLimits(sb.Present(), next.Present())); err != nil {
		return err
	}
	rev.Success()
	return nil
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

// judgeResize refuses limits that the container's machine, as it was made, cannot have; is
// has limits that it does have.
func (s *Service) judgeResize(sb vm.Sandbox, c vm.Container, next limited, is ...limited) error {
	ask, err := annotations.Parse(sb.Spec.Annotations)
	if err != nil {
		return err
	}
	size := c.Status.Size
	if size == (vm.MachineSize{}) {
		if size, err = sizeOf(sb.Spec, c.Spec, ask, *s.defaults.Load(), s.Accel()); err != nil {
			return err
		}
	}
	return resize{is: is, next: next, size: size, ask: ask, accel: s.Accel()}.judge()
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
	if c.Status.State != vm.ContainerRunning {
		return nil
	}
	return s.deps.Cgroups.Update(ctx, sb.ID, sb.Spec.CgroupParent, cgroupLimits(sb.Present(), c.Present()), next)
}

// limitAgain makes sure that a VM that runs on has the limits on record: what was recorded
// may not have been done when an earlier vmlet ended.
func (s *Service) limitAgain(ctx context.Context, sb vm.Sandbox, c vm.Container) error {
	if s.cfg.LibvirtCgroups || c.Status.Resources == nil && sb.Status.Resources == nil && sb.Status.Overhead == nil {
		return nil
	}
	err := s.limit(ctx, sb, c, cgroupLimits(sb.Present(), c.Present()))
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
