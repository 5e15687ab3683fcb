// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// DeleteSnapshot deletes a snapshot of a VM, whatever that is doing, and returns when what only this snapshot needed is
// given back: layers that nothing else is on are removed, others merged. Snapshots that were taken later stay as they
// are. NotFound for a name that there is no snapshot of. ref is as in sandboxOf.
func (s *Service) DeleteSnapshot(ctx context.Context, ref, name string) error {
	op, err := s.beginDeletion(ctx, ref, name)
	if err != nil {
		return err
	}
	return op.wait(ctx)
}

// DetachDeleteSnapshot is DeleteSnapshot that returns once the operation is on record.
func (s *Service) DetachDeleteSnapshot(ctx context.Context, ref, name string) (vm.OperationInfo, error) {
	op, err := s.beginDeletion(ctx, ref, name)
	return s.detached(ctx, op, err)
}

func (s *Service) beginDeletion(ctx context.Context, ref, name string) (*operation, error) {
	a := longCall{kind: vm.OperationSnapshotDelete, subject: name, final: finalDelete}
	return s.operate(ctx, ref, a, func(ctx context.Context, op *operation) error {
		return s.layered(ctx, op, func(ctx context.Context) error {
			return s.observed("snapshot_delete", func() error { return s.deleteSnapshot(ctx, op.sandboxID, name) })
		})
	})
}

func (s *Service) deleteSnapshot(ctx context.Context, sandboxID, name string) error {
	t, id, err := s.recordDeleting(ctx, sandboxID, name)
	if err != nil {
		return err
	}
	if err := s.tidyLayers(ctx, sandboxID); err != nil {
		return goesOnError{err}
	}
	if _, _, there := snapshotOf(s.lastTreesOf(sandboxID), id); there && t.persistent != "" {
		return errLeftToNext
	}
	s.tell(vm.VMEvent{SandboxID: sandboxID, Kind: vm.SnapshotDeletedEvent, Subject: name})
	return nil
}

// errLeftToNext is for a deletion that a sandbox is stopped under, whose disk is persistent.
var errLeftToNext = fmt.Errorf("the sandbox was stopped meanwhile; the snapshot is deleted, and its room given back when the next pod takes the disk: %w", errdefs.ErrAborted)

// recordDeleting records the intent, and returns the tree and the ID of the snapshot.
func (s *Service) recordDeleting(ctx context.Context, sandboxID, name string) (t diskTree, id string, err error) {
	unlock, err := s.locks.Lock(ctx, sandboxID)
	if err != nil {
		return t, "", err
	}
	defer unlock()
	if err := s.notRestoring(sandboxID); err != nil {
		return t, "", err
	}
	if err := s.undoSnapshotLocked(ctx, sandboxID); err != nil {
		return t, "", err
	}
	sb, err := s.deps.Store.Sandboxes.Get(sandboxID)
	if err != nil {
		return t, "", err
	}
	if err := mayHaveSnapshots(sb); err != nil {
		return t, "", err
	}
	if sb.Status.State == vm.SandboxRemoving {
		return t, "", fmt.Errorf("it is being removed: %w", errdefs.ErrFailedPrecondition)
	}
	t = s.presentTree(sb)
	snap, err := snapshotNamed(t, name)
	if err != nil {
		return t, "", err
	}
	_, err = s.intendInTree(t, "snapshot deleting", snap.ID, func(t vm.DiskTree) (vm.DiskTree, error) {
		snap.State = vm.SnapshotDeleting
		t.Snapshots = withSnapshot(t.Snapshots, snap)
		return t, nil
	})
	return t, snap.ID, err
}
