// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/zap"

	"github.com/vmlet/vmlet/pkg/log"
	"github.com/vmlet/vmlet/pkg/vm"
)

// detachWait is how long a guest is waited for where the caller does not say. No wait is longer than MaxDetachWait, which
// leaves time for the rest of the work.
const (
	detachWait    = 30 * time.Second
	MaxDetachWait = 3 * time.Minute
)

// diskUsePatience is how long vmlet-agent may take to say what uses a disk. It is waited for also where only
// qemu-guest-agent answers: after a restart of vmlet that one may be quicker.
const diskUsePatience = 10 * time.Second

// errNotLetGo: a request to let go cannot be taken back, so the guest may still follow it.
var errNotLetGo = fmt.Errorf("the guest did not let go of it in time; it stays attached, unless the guest lets go of it later: %w", context.DeadlineExceeded)

// DetachDisk takes a data disk from the VM of a sandbox. The file of a disk by size is kept, for AttachDisk to find, until
// it is detached with req.Delete or the sandbox is removed; a caller's file is the caller's. ref is as in vmOf, but no VM
// has to run.
//
// A guest that runs is asked to let go of it, and waited for: DeadlineExceeded if it has not by then, and the disk stays
// attached. FailedPrecondition for a disk that the guest uses, for one of a VM that is paused, and for the root disk and the
// seed. NotFound for an unknown name.
func (s *Service) DetachDisk(ctx context.Context, ref, name string, req vm.DetachRequest) error {
	if req.Wait == 0 {
		req.Wait = detachWait
	}
	req.Wait = min(req.Wait, MaxDetachWait)
	sandboxID, err := s.sandboxOf(ref)
	if err == nil && (name == vm.RootDiskName || name == vm.SeedDiskName) {
		err = fmt.Errorf("a VM does not run without it: %w", errdefs.ErrFailedPrecondition)
	}
	if err != nil {
		return fmt.Errorf("detach disk %q: %w", name, err)
	}
	err = s.shareErr(ctx, fmt.Sprintf("detach disk %s from sandbox %s, delete %t", name, sandboxID, req.Delete), func(ctx context.Context) error {
		return s.observed("disk_detach", func() error { return s.detachDisk(ctx, sandboxID, name, req) })
	})
	if err != nil {
		return fmt.Errorf("detach disk %q from sandbox %s: %w", name, sandboxID, err)
	}
	return nil
}

func (s *Service) detachDisk(ctx context.Context, sandboxID, name string, req vm.DetachRequest) error {
	news, forget := s.unplugs.wait(sandboxID)
	defer forget()
	if err := s.refuseUsedDisk(ctx, sandboxID, name); err != nil {
		return err
	}
	d, gone, err := s.beginDetach(ctx, sandboxID, name, req.Delete)
	if err != nil || gone {
		return err
	}
	late := time.NewTimer(req.Wait)
	defer late.Stop()
	for {
		select {
		case <-news:
			if gone, err := s.endDetach(ctx, sandboxID, d, false); gone || err != nil {
				return err
			}
		case <-late.C:
			if gone, err := s.endDetach(ctx, sandboxID, d, true); gone || err != nil {
				return err
			}
			return errNotLetGo
		case <-s.life.Done():
			return errClosed // the next life finds the record
		}
	}
}

// refuseUsedDisk refuses to take from a guest what it uses: Linux would let go of a mounted disk too, and lose what it has
// not written yet. Only vmlet-agent can tell; where none answers, nobody is asked.
func (s *Service) refuseUsedDisk(ctx context.Context, sandboxID, name string) error {
	sb, err := s.deps.Store.Sandboxes.Get(sandboxID)
	if err != nil {
		return err
	}
	d, known := dataDisk(sb, name)
	c, live := s.liveContainer(sandboxID)
	if !known || d.State == vm.DataDiskDetached || !live || !c.Status.Runs() || c.Status.Paused {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, diskUsePatience)
	defer cancel()
	use, err := s.deps.Guest.DiskUse(ctx, sandboxID, d.Serial)
	if err != nil {
		log.From(ctx).Debug("whether the guest uses the disk is not known", zap.String("disk", name), zap.Error(err))
		return nil
	}
	if use != "" {
		return fmt.Errorf("the guest uses it: %s; unmount it there first: %w", use, errdefs.ErrFailedPrecondition)
	}
	return nil
}

// beginDetach records the intent and asks the guest. Where there is no guest to ask, all of it is done: gone.
func (s *Service) beginDetach(ctx context.Context, sandboxID, name string, remove bool) (d vm.DataDisk, gone bool, err error) {
	unlock, err := s.locks.Lock(ctx, sandboxID)
	if err != nil {
		return d, false, err
	}
	defer unlock()
	sb, err := s.deps.Store.Sandboxes.Get(sandboxID)
	if err != nil {
		return d, false, err
	}
	if err := s.gate(sb, vm.GateDiskRemove); err != nil {
		return d, false, err
	}
	if err := s.betweenSnapshots(sb); err != nil {
		return d, false, err
	}
	d, known := dataDisk(sb, name)
	switch {
	case sb.Status.State != vm.SandboxReady && sb.Status.State != vm.SandboxNotReady:
		return d, false, fmt.Errorf("the sandbox is %s: %w", sb.Status.State, errdefs.ErrFailedPrecondition)
	case !known:
		return d, false, fmt.Errorf("it has no such disk; list them: vmletctl disk ls POD: %w", errdefs.ErrNotFound)
	case d.State == vm.DataDiskDetached && !remove:
		return d, true, nil
	}
	if names := heldIn(sb.Status.DiskTree, d); remove && len(names) > 0 {
		return d, false, fmt.Errorf("snapshots have its content (%s); delete them first, or detach it without deleting its file: %w",
			strings.Join(names, ", "), errdefs.ErrFailedPrecondition)
	}
	live, err := s.liveDisks(ctx, sandboxID)
	if err != nil {
		return d, false, err
	}
	_, plugged := live[d.Target]
	if c, ok := s.liveContainer(sandboxID); plugged && ok && c.Status.Paused {
		return d, false, fmt.Errorf("its guest cannot let go of it while it is paused, resume it first: %w", errdefs.ErrFailedPrecondition)
	}
	was := d
	d.State, d.Delete = vm.DataDiskDetaching, (d.Delete || remove) && d.Own()
	if _, err := s.recordDataDisk(sandboxID, "data disk detaching", d); err != nil {
		return d, false, err
	}
	if !plugged {
		return d, true, s.finishOrGoOn(ctx, sandboxID, d)
	}
	if err := s.deps.Hypervisor.UnplugDisk(ctx, sandboxID, d.Target); err != nil {
		_, undoErr := s.recordDataDisk(sandboxID, "data disk stays", was)
		return d, false, errors.Join(err, undoErr)
	}
	return d, false, nil
}

// endDetach looks whether the guest has let go, and finishes then. When it is too late and the guest has not, the disk is
// attached as it was.
func (s *Service) endDetach(ctx context.Context, sandboxID string, asked vm.DataDisk, late bool) (gone bool, err error) {
	unlock, err := s.locks.Lock(ctx, sandboxID)
	if err != nil {
		return false, err
	}
	defer unlock()
	sb, err := s.deps.Store.Sandboxes.Get(sandboxID)
	if err != nil {
		return false, err
	}
	d, known := dataDisk(sb, asked.Name)
	if !known || d.ID != asked.ID || d.State == vm.DataDiskDetached {
		return true, nil // somebody who looked has finished it
	}
	live, err := s.liveDisks(ctx, sandboxID)
	if err != nil {
		if late {
			s.settleDisksLater(sandboxID) //nolint:contextcheck // it outlives the call
			return false, err
		}
		return false, nil // libvirt is away: it will tell when it is back
	}
	if _, plugged := live[d.Target]; !plugged {
		return true, s.finishOrGoOn(ctx, sandboxID, d)
	}
	if late {
		d.State, d.Delete = vm.DataDiskAttached, false
		_, err = s.recordDataDisk(sandboxID, "data disk stays", d)
	}
	return false, err
}

// finishOrGoOn is finishDetach; what it cannot do is tried again when nobody waits for it any more.
func (s *Service) finishOrGoOn(ctx context.Context, sandboxID string, d vm.DataDisk) error {
	err := s.finishDetach(ctx, sandboxID, d)
	if err != nil {
		s.settleDisksLater(sandboxID) //nolint:contextcheck // it outlives the call
	}
	return err
}

// finishDetach does what is left to do of a detach once no machine has the disk. Under the sandbox's lock.
func (s *Service) finishDetach(ctx context.Context, sandboxID string, d vm.DataDisk) error {
	if d.Target != "" {
		if err := withoutDomain(s.deps.Hypervisor.ForgetDisk(ctx, sandboxID, d.Target)); err != nil {
			return err
		}
	}
	s.tell(vm.VMEvent{SandboxID: sandboxID, Kind: vm.DiskDetachedEvent, Subject: d.Name})
	if d.Own() && !d.Delete {
		d.State, d.Target = vm.DataDiskDetached, ""
		_, err := s.recordDataDisk(sandboxID, "data disk detached", d)
		return err
	}
	if d.Delete {
		if err := s.merges.interrupt(ctx, sandboxID); err != nil {
			return err
		}
		if err := s.deps.Disks.RemoveFile(ctx, d.Path); err != nil {
			return err
		}
	}
	if d.Layer != "" { // of snapshots that are being deleted
		s.tidyLater(sandboxID) //nolint:contextcheck // it outlives the call
	}
	return s.dropDataDisk(sandboxID, "data disk gone", d)
}
