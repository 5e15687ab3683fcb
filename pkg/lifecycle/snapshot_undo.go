// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"go.uber.org/zap"

	"github.com/vmlet/vmlet/pkg/log"
	"github.com/vmlet/vmlet/pkg/vm"
)

// undoSnapshot undoes a snapshot that was not taken to its end.
func (s *Service) undoSnapshot(ctx context.Context, sandboxID string) error {
	unlock, err := s.locks.Lock(ctx, sandboxID)
	if err != nil {
		return err
	}
	defer unlock()
	return s.undoSnapshotLocked(ctx, sandboxID)
}

// undoSnapshotLater is undoSnapshot in the background, until it succeeds.
func (s *Service) undoSnapshotLater(sandboxID string) {
	s.work.Go(func() {
		again(log.With(s.life, zap.String("sandbox", sandboxID)), "a snapshot that failed", func(ctx context.Context) error {
			unlock, err := s.layerLocks.Lock(ctx, sandboxID)
			if err != nil {
				return err
			}
			defer unlock()
			if err := s.undoSnapshot(ctx, sandboxID); err != nil {
				return err
			}
			return s.tidyLayers(ctx, sandboxID)
		})
	})
}

// undoSnapshotLocked is undoSnapshot under the sandbox's lock. Before any QEMU is started it must have been called: the
// guest may have written to the new file, and a disk without it is one of the past.
//
// Where a QEMU runs, that knows which files it writes to: all new ones, or none. Where none does, the new files are taken if
// they are all there: if nothing was written to them, they are the disks all the same.
func (s *Service) undoSnapshotLocked(ctx context.Context, sandboxID string) error {
	sb, err := s.deps.Store.Sandboxes.Get(sandboxID)
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, t := range s.treesOf(sb) {
		for _, snap := range t.Snapshots {
			if snap.State != vm.SnapshotCreating {
				continue
			}
			if snap.Consistency == vm.ConsistencyFiles {
				s.thawLater(sandboxID) //nolint:contextcheck // as below
			}
			if err := s.settleSnapshot(ctx, t, snap); err != nil {
				return fmt.Errorf("undo snapshot %s: %w", snap.Name, err)
			}
			s.tidyLater(sandboxID) //nolint:contextcheck // it outlives the call
		}
	}
	return nil
}

func (s *Service) settleSnapshot(ctx context.Context, t diskTree, snap vm.Snapshot) error {
	switched, err := s.hasSwitched(ctx, t, snap)
	if err != nil {
		return err
	}
	if switched {
		return s.recordTaken(t, snap, vm.SnapshotDeleting)
	}
	if err := s.removeNexts(ctx, snap); err != nil {
		return err
	}
	_, err = s.updateTree(t, "snapshot undone", func(t vm.DiskTree) (vm.DiskTree, error) {
		snap = withoutNexts(snap)
		snap.State = vm.SnapshotDeleting
		t.Snapshots = withSnapshot(t.Snapshots, snap)
		return t, nil
	})
	return err
}

// writesTo tells whether QEMU writes its root disk to a file. Unavailable while libvirt is at work on a snapshot: it may have QEMU switch
// over at any moment, and tells of it afterwards.
func (s *Service) writesTo(ctx context.Context, sandboxID, path string) (bool, error) {
	saving, err := s.deps.Hypervisor.Saving(ctx, sandboxID)
	if err == nil && saving {
		err = fmt.Errorf("libvirt still takes it: %w", errdefs.ErrUnavailable)
	}
	if err != nil {
		return false, err
	}
	chains, err := s.deps.Hypervisor.Chains(ctx, sandboxID)
	return err == nil && chains[0][0] == path, err
}

// hasSwitched tells whether the guest may have written to the new files.
func (s *Service) hasSwitched(ctx context.Context, t diskTree, snap vm.Snapshot) (bool, error) {
	d, err := s.deps.Hypervisor.Domain(ctx, t.sandboxID)
	if err != nil {
		return false, err
	}
	if d.State.Active() {
		return s.writesTo(ctx, t.sandboxID, snap.Disk.Next)
	}
	nexts := nextsOf(t.DiskTree, snap) // a root disk may have gone with its container
	for _, path := range nexts {
		next, err := s.deps.Disks.FileUsage(ctx, path)
		if err != nil || next.UsedInodes == 0 {
			return false, err // before all were there no QEMU was told of any
		}
	}
	return len(nexts) > 0, nil
}
