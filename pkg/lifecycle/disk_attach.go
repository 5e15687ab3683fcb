// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/revert"
	"github.com/vmlet/vmlet/pkg/vm"
)

// AttachDisk gives the VM of a sandbox a disk: a new one of a size, the one of that name that was detached and kept, or the
// file or block device at a path. A guest that runs, or is paused, gets it at once; between two boots it is in the next
// one. ref is as in vmOf, but no VM has to run.
//
// Idempotent by name and spec; AlreadyExists, with what differs, for another spec. InvalidArgument for a spec that makes no
// sense, FailedPrecondition for a path that a VM may not have, and for one that another has, ResourceExhausted where there
// is no room, on the host or in the machine.
func (s *Service) AttachDisk(ctx context.Context, ref, name string, spec vm.DataDiskSpec) (vm.DataDisk, error) {
	spec, err := spec.Check(name)
	if err != nil {
		return vm.DataDisk{}, fmt.Errorf("attach disk: %w", err)
	}
	sandboxID, err := s.sandboxOf(ref)
	if err != nil {
		return vm.DataDisk{}, fmt.Errorf("attach disk %q: %w", name, err)
	}
	err = s.shareErr(ctx, fmt.Sprintf("attach disk %s to sandbox %s as %+v", name, sandboxID, spec), func(ctx context.Context) error {
		return s.observed("disk_attach", func() error {
			unlock, err := s.locks.Lock(ctx, sandboxID)
			if err != nil {
				return err
			}
			defer unlock()
			return s.attachDisk(ctx, sandboxID, name, spec)
		})
	})
	if err != nil {
		return vm.DataDisk{}, fmt.Errorf("attach disk %q to sandbox %s: %w", name, sandboxID, err)
	}
	sb, err := s.deps.Store.Sandboxes.Get(sandboxID)
	if err != nil {
		return vm.DataDisk{}, err
	}
	d, _ := dataDisk(sb, name)
	return d, nil
}

// attachDisk does the work of AttachDisk under the sandbox's lock.
func (s *Service) attachDisk(ctx context.Context, sandboxID, name string, spec vm.DataDiskSpec) (err error) {
	sb, err := s.deps.Store.Sandboxes.Get(sandboxID)
	if err != nil {
		return err
	}
	if sb.Status.State != vm.SandboxReady {
		return fmt.Errorf("the sandbox is %s, not ready: %w", sb.Status.State, errdefs.ErrFailedPrecondition)
	}
	if err := s.gate(sb, vm.GateDiskAdd); err != nil {
		return err
	}
	if err := s.betweenSnapshots(sb); err != nil {
		return err
	}
	before, known := dataDisk(sb, name)
	if known {
		if diff := before.Differs(spec); diff != "" {
			return fmt.Errorf("it has a disk of that name (%s), whose %s: %w", before.State, diff, errdefs.ErrAlreadyExists)
		}
		switch before.State {
		case vm.DataDiskAttached:
			return nil
		case vm.DataDiskDetaching:
			return fmt.Errorf("it is being detached: %w", errdefs.ErrFailedPrecondition)
		case vm.DataDiskAttaching, vm.DataDiskDetached:
		}
	}
	d, err := s.newDataDisk(sb, name, spec, before)
	if err != nil {
		return err
	}
	if d, err = s.intendDataDisk(ctx, sandboxID, d); err != nil {
		return err
	}
	defer func() { //nolint:contextcheck // settling outlives the call
		if errors.Is(err, revert.ErrIncomplete) {
			s.settleDisksLater(sandboxID)
		}
	}()
	rev := revert.New(ctx)
	defer rev.Fail(&err) //nolint:contextcheck // it has ctx since New
	rev.Add("disk attach", func(ctx context.Context) error { return s.undoAttach(ctx, sandboxID, d, known) })
	if err := s.plugDataDisk(ctx, sandboxID, d); err != nil {
		return err
	}
	d.State = vm.DataDiskAttached
	if _, err := s.recordDataDisk(sandboxID, "data disk attached", d); err != nil {
		return err
	}
	rev.Success()
	s.tell(vm.VMEvent{SandboxID: sandboxID, Kind: vm.DiskAttachedEvent, Subject: name})
	return nil
}

// newDataDisk is the record of a disk that is to be attached; before is the one of its name, if there is one.
func (s *Service) newDataDisk(sb vm.Sandbox, name string, spec vm.DataDiskSpec, before vm.DataDisk) (vm.DataDisk, error) {
	d := before
	if d.ID == "" {
		d = vm.DataDisk{Name: name, ID: newID(), CreatedAt: s.now(), Spec: spec, Size: spec.Size}
		if d.Own() {
			d.Path = s.cfg.Paths.DataDisk(sb.ID, d.ID)
		}
	}
	others := slices.DeleteFunc(slices.Clone(sb.Status.DataDisks), func(other vm.DataDisk) bool { return other.Name == name })
	has := func(fits func(vm.DataDisk) bool) bool { return slices.ContainsFunc(others, fits) }
	taken := func(serial string) bool { return has(func(other vm.DataDisk) bool { return other.Serial == serial }) }
	switch {
	case spec.Serial != "" && taken(spec.Serial):
		return d, fmt.Errorf("serial number %q is that of another disk of this VM: %w", spec.Serial, errdefs.ErrAlreadyExists)
	case spec.Serial != "":
		d.Serial = spec.Serial
	case d.Serial == "":
		d.Serial = vm.ChooseSerial(name, d.ID, taken)
	}
	d.Target = ""
	for n := range vm.MaxDataDisks {
		target := vm.DataTarget(spec.Bus, n)
		if !has(func(other vm.DataDisk) bool { return other.Target == target }) {
			d.Target = target
			break
		}
	}
	if d.Target == "" {
		return d, fmt.Errorf("it has %d disks on bus %s, and no more fit: %w", vm.MaxDataDisks, spec.Bus, errdefs.ErrResourceExhausted)
	}
	d.State = vm.DataDiskAttaching
	return d, nil
}

// intendDataDisk records what is to be attached.
func (s *Service) intendDataDisk(ctx context.Context, sandboxID string, d vm.DataDisk) (vm.DataDisk, error) {
	const step = "data disk intended"
	if !d.Own() {
		return s.claimSource(ctx, sandboxID, step, d)
	}
	_, err := s.recordDataDisk(sandboxID, step, d)
	return d, err
}

// undoAttach takes a disk out of the definition and off the record. One that was on record before may hold data: it is
// kept. What the running machine has got already stays on record: only the guest could give it back, and who looks next finds it
// attached.
func (s *Service) undoAttach(ctx context.Context, sandboxID string, d vm.DataDisk, kept bool) error {
	live, err := s.liveDisks(ctx, sandboxID)
	if err != nil {
		return err
	}
	if _, in := live[d.Target]; in {
		return fmt.Errorf("the guest has it already: %w", errdefs.ErrFailedPrecondition)
	}
	if err := withoutDomain(s.deps.Hypervisor.ForgetDisk(ctx, sandboxID, d.Target)); err != nil {
		return err
	}
	if kept && d.Own() {
		d.State, d.Target = vm.DataDiskDetached, ""
		_, err := s.recordDataDisk(sandboxID, "data disk kept", d)
		return err
	}
	if d.Own() {
		if err := s.deps.Disks.RemoveFile(ctx, d.Path); err != nil {
			return err
		}
	}
	return s.dropDataDisk(sandboxID, "data disk forgotten", d)
}
