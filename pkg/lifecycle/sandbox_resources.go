// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/revert"
	"github.com/vmlet/vmlet/pkg/vm"
)

// UpdateSandboxResources changes the pod's limits and its overhead; nil, and what they leave
// open, stays. kubelet asks for it before it gives a pod more, and does not go on after an
// error: so what the pod's one VM cannot be given is refused here already, with
// FailedPrecondition. Where the limits of the pod are its container's, the VM is given what they
// ask for. On an error all is as it was.
func (s *Service) UpdateSandboxResources(ctx context.Context, ref string, limits, overhead *vm.Resources) error {
	sb, err := s.Sandbox(ref)
	if err != nil {
		return err
	}
	err = s.resizing(ctx, "update the resources of sandbox "+sb.ID, sb.ID, func(ctx context.Context) error {
		return s.observed("sandbox_resources", func() error {
			return s.changeLimits(ctx, sb.ID, func() (bool, error) { return s.beginSandboxResources(ctx, sb.ID, limits, overhead) })
		})
	})
	if err != nil {
		return fmt.Errorf("update the resources of sandbox %s: %w", sb.ID, err)
	}
	return nil
}

// beginSandboxResources does all of it where the machine keeps its size; else it begins to give it another one.
func (s *Service) beginSandboxResources(ctx context.Context, id string, limits, overhead *vm.Resources) (begun bool, err error) {
	sb, err := s.deps.Store.Sandboxes.Get(id)
	if err != nil {
		return false, err
	}
	if sb.Status.State != vm.SandboxReady {
		return false, fmt.Errorf("it is %s, not ready: %w", sb.Status.State, errdefs.ErrFailedPrecondition)
	}
	next := sb
	next.Status.Resources = merge(sb.Present().Resources, sb.Status.Resources, limits)
	next.Status.Overhead = merge(sb.Present().Overhead, sb.Status.Overhead, overhead)
	c, live := s.liveContainer(id)
	if live {
		if c, _, err = s.resizable(c.ID); err != nil {
			return false, err
		}
		size, err := s.judgePod(sb, next, c)
		if err != nil {
			return false, err
		}
		if size != c.Status.Size && c.Status.Size != (vm.MachineSize{}) {
			return true, s.beginResize(ctx, sb, c, s.wholeResize(sb, c, size, termsOf(next, c)))
		}
	}
	rev := revert.New(ctx)
	defer rev.Fail(&err) //nolint:contextcheck // it has ctx since New
	rev.Add("sandbox resources", func(context.Context) error { return s.recordSandboxResources(id, sb.Status) })
	if err := s.recordSandboxResources(id, next.Status); err != nil {
		return false, err
	}
	if live {
		if err := s.limit(ctx, sb, c, groupLimits(next, c, s.Accel())); err != nil {
			return false, err
		}
	}
	rev.Success()
	return false, nil
}

// merge is what is on record after a change; without one it stays as it is.
func merge(present, recorded, change *vm.Resources) *vm.Resources {
	if change == nil {
		return recorded
	}
	merged := valueOr(present).Merge(*change)
	return &merged
}

// judgePod refuses what the VM could not be given next. The pod's own sums are looked at too,
// though the container's limits count before them: kubelet changes the one after the other.
func (s *Service) judgePod(was, next vm.Sandbox, c vm.Container) (vm.MachineSize, error) {
	is, pod := limited{was.Present(), c.Present()}, limited{sandbox: was.Present()}
	size, err := s.judgeResize(was, c, limited{next.Present(), c.Present()}, is)
	if err != nil {
		return size, err
	}
	_, err = s.judgeResize(was, c, limited{sandbox: next.Present()}, is, pod)
	return size, err
}

func (s *Service) recordSandboxResources(id string, limits vm.SandboxStatus) error {
	_, err := s.updateSandbox(id, "sandbox resources", func(st vm.SandboxStatus) (vm.SandboxStatus, error) {
		st.Resources, st.Overhead = limits.Resources, limits.Overhead
		return st, nil
	})
	return err
}
