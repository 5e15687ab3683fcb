// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// NICs lists the NICs of a VM, the pod's first, then in the order in which they were attached. It answers from memory. ref
// is as in vmOf, but no VM need run.
func (s *Service) NICs(ref string) ([]vm.NICView, error) {
	sandboxID, err := s.sandboxOf(ref)
	if err != nil {
		return nil, fmt.Errorf("list NICs: %w", err)
	}
	sb, err := s.deps.Store.Sandboxes.Get(sandboxID)
	if err != nil {
		return nil, fmt.Errorf("list NICs: %w", err)
	}
	return s.nicViews(sb), nil
}

func (s *Service) nicViews(sb vm.Sandbox) []vm.NICView {
	if sb.Status.Network == nil {
		return nil
	}
	c, live := s.liveContainer(sb.ID)
	runs := live && c.Status.Runs()
	var out []vm.NICView
	for _, nic := range sb.Status.Network.NICs {
		out = append(out, vm.NICView{NIC: nic, Spec: vm.NICSpec{Name: nic.Name}, State: vm.NICAttached, Plugged: runs, Primary: true})
	}
	for _, n := range sb.Status.NICs {
		v := vm.NICView{NIC: vm.NIC{Name: n.Spec.Name}, Spec: n.Spec, State: n.State, AttachedAt: n.AttachedAt}
		if n.NIC != nil {
			v.NIC, v.Plugged = *n.NIC, runs && n.State != vm.NICAttaching && !n.Unplugged
		}
		out = append(out, v)
	}
	return out
}

func (s *Service) nicView(sb vm.Sandbox, name string) vm.NICView {
	for _, v := range s.nicViews(sb) {
		if v.Name == name {
			return v
		}
	}
	return vm.NICView{}
}

// nicCall does something to one NIC that goes on when its caller goes away. Calls for one NIC wait for each other, also for
// as long as one of them waits for the guest; the sandbox's lock is taken after this one, and not held that long.
func (s *Service) nicCall(ctx context.Context, what, sandboxID, name string, wait time.Duration, do func(context.Context) error) error {
	work := fmt.Sprintf("%s NIC %s of sandbox %s", what, name, sandboxID)
	ended := make(chan error, 1)
	begun := s.work.Go(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), workTimeout+wait)
		defer cancel()
		_, err := caught(ctx, work, func(ctx context.Context) (string, error) {
			return "", s.observed("nic_"+what, func() error { return s.withNIC(ctx, sandboxID, name, do) })
		})
		if err != nil {
			err = fmt.Errorf("%s: %w", work, err)
		}
		ended <- err
	})
	if !begun {
		return fmt.Errorf("%s: %w", work, errClosed)
	}
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%s goes on without its caller: %w", work, ctx.Err())
	}
}

func (s *Service) withNIC(ctx context.Context, sandboxID, name string, do func(context.Context) error) error {
	unlock, err := s.nicLocks.Lock(ctx, sandboxID+"/"+name)
	if err != nil {
		return err
	}
	defer unlock()
	return do(ctx)
}

// forNICs returns a sandbox whose NICs may change now, and its machine. Under the sandbox's lock.
func (s *Service) forNICs(ctx context.Context, sandboxID string) (sb vm.Sandbox, runs bool, err error) {
	if sb, err = s.deps.Store.Sandboxes.Get(sandboxID); err != nil {
		return sb, false, err
	}
	if sb.Status.State != vm.SandboxReady || sb.Status.Network == nil {
		return sb, false, fmt.Errorf("the sandbox is %s, not ready: %w", sb.Status.State, errdefs.ErrFailedPrecondition)
	}
	c, live := s.liveContainer(sandboxID)
	if !live {
		return sb, false, nil
	}
	switch c.Status.State {
	case vm.ContainerCreating, vm.ContainerStarting:
		return sb, false, fmt.Errorf("its VM is just being made: %w", errdefs.ErrUnavailable)
	case vm.ContainerRunning:
		if c.Status.Paused {
			return sb, false, fmt.Errorf("its VM is paused, resume it first: %w", errdefs.ErrFailedPrecondition)
		}
		if c.Status.Rejoin {
			return sb, false, errRejoining
		}
		d, err := s.deps.Hypervisor.Domain(ctx, sandboxID)
		return sb, d.State.Active(), err
	case vm.ContainerCreated, vm.ContainerExited, vm.ContainerRemoving:
	}
	return sb, false, nil
}

// recordNIC puts a NIC on record.
func (s *Service) recordNIC(sandboxID, step string, n vm.AttachedNIC) (vm.Sandbox, error) {
	return s.updateSandbox(sandboxID, step, func(st vm.SandboxStatus) (vm.SandboxStatus, error) {
		st = st.WithNIC(n)
		st.NICsChanged = true
		return st, nil
	})
}

// nicRequest is what CNI is told of a NIC, by ADD and DEL.
func nicRequest(sb vm.Sandbox, n vm.AttachedNIC) vm.NICRequest {
	return vm.NICRequest{Sandbox: networkRequest(sb), Spec: n.Spec, Number: n.Number}
}

// alignNICs brings what a machine is made of in line with the NICs on record, before it boots: its definition and its seed.
// It does nothing where NICs never changed. Under the sandbox's lock.
func (s *Service) alignNICs(ctx context.Context, sb vm.Sandbox, c vm.Container) error {
	if !sb.Status.NICsChanged {
		return nil
	}
	if err := s.deps.Hypervisor.DefineNICs(ctx, sb.ID, sb.NICs()); err != nil {
		return err
	}
	if err := s.renewSeed(ctx, sb, c); err != nil {
		return err
	}
	if !slices.ContainsFunc(sb.Status.NICs, func(n vm.AttachedNIC) bool { return n.Unplugged }) {
		return nil
	}
	_, err := s.updateSandbox(sb.ID, "NICs plugged", func(st vm.SandboxStatus) (vm.SandboxStatus, error) {
		for _, n := range st.NICs {
			n.Unplugged = false
			st = st.WithNIC(n)
		}
		return st, nil
	})
	return err
}
