// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/revert"
	"github.com/vmlet/vmlet/pkg/vm"
)

// nicDetachWait is how long the guest is waited for where the caller does not say, undoWait where an attaching is undone.
const (
	nicDetachWait = 30 * time.Second
	undoWait      = 10 * time.Second
)

// DetachNIC takes a NIC from a VM: the guest lets go of the device, then CNI of the attachment. wait is how long the guest is waited for, 0 for the default. ref is
// as in vmOf, but no VM need run.
//
// DeadlineExceeded if the guest does not let go by then: the NIC stays and works, and the call can be repeated. But what was
// asked of the guest cannot be taken back: one that lets go later has let go. FailedPrecondition for the pod's own NIC, and
// while the VM is paused; NotFound if there is none of the name.
func (s *Service) DetachNIC(ctx context.Context, ref, name string, wait time.Duration) error {
	if wait == 0 {
		wait = nicDetachWait
	}
	sandboxID, err := s.sandboxOf(ref)
	if err != nil {
		return fmt.Errorf("detach NIC: %w", err)
	}
	return s.nicCall(ctx, "detach", sandboxID, name, wait, func(ctx context.Context) error {
		return s.detachNIC(ctx, sandboxID, name, wait)
	})
}

// detachNIC does the work of DetachNIC under the NIC's lock.
func (s *Service) detachNIC(ctx context.Context, sandboxID, name string, wait time.Duration) error {
	if name == vm.PrimaryNIC {
		return fmt.Errorf("%s is the pod's own and lasts as long as its sandbox: %w", name, errdefs.ErrFailedPrecondition)
	}
	n, err := s.intendDetach(ctx, sandboxID, name, wait)
	if err != nil {
		return err
	}
	if err := s.unplugNIC(ctx, sandboxID, n, wait); err != nil {
		return err
	}
	if err := s.forgetNIC(ctx, sandboxID, name); err != nil {
		return err
	}
	s.work.Go(func() { s.tellGuestSoon(s.life, sandboxID) })
	return nil
}

// intendDetach puts on record that a NIC is to go.
func (s *Service) intendDetach(ctx context.Context, sandboxID, name string, wait time.Duration) (vm.AttachedNIC, error) {
	unlock, err := s.locks.Lock(ctx, sandboxID)
	if err != nil {
		return vm.AttachedNIC{}, err
	}
	defer unlock()
	sb, _, err := s.forNICs(ctx, sandboxID)
	if err != nil {
		return vm.AttachedNIC{}, err
	}
	n, there := sb.Status.AttachedNIC(name)
	if there && n.State == vm.NICAttached {
		err = s.gate(sb, vm.GateNICRemove)
	}
	if err == nil {
		err = s.betweenSnapshots(sb)
	}
	if err != nil {
		return n, err
	}
	if !there {
		return n, fmt.Errorf("there is no NIC of the name: %w", errdefs.ErrNotFound)
	}
	n.Undo = n.Undo || n.State == vm.NICAttaching
	n.State, n.Deadline = vm.NICDetaching, s.now().Add(wait)
	_, err = s.recordNIC(sandboxID, "NIC detaching", n)
	return n, err
}

// unplugNIC waits, without the sandbox's lock, until the guest has let go of the device. One that does not keeps the NIC.
func (s *Service) unplugNIC(ctx context.Context, sandboxID string, n vm.AttachedNIC, wait time.Duration) (err error) {
	if n.NIC == nil {
		return nil // no machine has seen it
	}
	rev := revert.New(ctx)
	defer rev.Fail(&err) //nolint:contextcheck // it has ctx since New
	rev.Add("NIC detach", func(ctx context.Context) error { return s.keepNIC(ctx, sandboxID, n.Spec.Name) })
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if err := s.deps.Hypervisor.UnplugNIC(ctx, sandboxID, *n.NIC); err != nil {
		return err
	}
	rev.Success()
	return nil
}

// keepNIC gives up a detachment: the NIC stays. One that never was attached stays to be detached.
func (s *Service) keepNIC(ctx context.Context, sandboxID, name string) error {
	unlock, err := s.locks.Lock(ctx, sandboxID)
	if err != nil {
		return err
	}
	defer unlock()
	n, err := s.nicOnRecord(sandboxID, name)
	if err != nil || n == nil || n.Undo {
		return err
	}
	n.State, n.Deadline = vm.NICAttached, time.Time{}
	_, err = s.recordNIC(sandboxID, "NIC kept", *n)
	return err
}

// forgetNIC gives a NIC that no machine has any more back to CNI, and forgets it. Nothing is left to do where the sandbox was stopped
// meanwhile.
func (s *Service) forgetNIC(ctx context.Context, sandboxID, name string) error {
	unlock, err := s.locks.Lock(ctx, sandboxID)
	if err != nil {
		return err
	}
	defer unlock()
	n, err := s.nicOnRecord(sandboxID, name)
	if err != nil || n == nil {
		return err
	}
	sb, err := s.deps.Store.Sandboxes.Get(sandboxID)
	if err != nil {
		return err
	}
	if err := s.deps.Network.DetachNIC(ctx, nicRequest(sb, *n)); err != nil {
		return err
	}
	_, err = s.updateSandbox(sandboxID, "NIC detached", func(st vm.SandboxStatus) (vm.SandboxStatus, error) {
		return st.WithoutNIC(name), nil
	})
	if err == nil {
		s.tell(vm.VMEvent{SandboxID: sandboxID, Kind: vm.NICDetachedEvent, Subject: name})
	}
	return err
}

// nicOnRecord is nil if there is none, or no sandbox any more.
func (s *Service) nicOnRecord(sandboxID, name string) (*vm.AttachedNIC, error) {
	sb, err := s.deps.Store.Sandboxes.Get(sandboxID)
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if n, there := sb.Status.AttachedNIC(name); there {
		return &n, nil
	}
	return nil, nil
}

// takeBackNIC undoes what was done of attaching a NIC. Under the NIC's lock, not the sandbox's.
func (s *Service) takeBackNIC(ctx context.Context, sandboxID, name string) error {
	unlock, err := s.locks.Lock(ctx, sandboxID)
	if err != nil {
		return err
	}
	n, err := s.nicOnRecord(sandboxID, name)
	if err == nil && n != nil {
		n.State, n.Undo, n.Deadline = vm.NICDetaching, true, s.now().Add(undoWait)
		_, err = s.recordNIC(sandboxID, "NIC undone", *n)
	}
	unlock()
	if err != nil || n == nil {
		return err
	}
	if err := s.unplugNIC(ctx, sandboxID, *n, undoWait); err != nil {
		return err
	}
	return s.forgetNIC(ctx, sandboxID, name)
}
