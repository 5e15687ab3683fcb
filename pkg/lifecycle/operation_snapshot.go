// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/zap"

	"github.com/vmlet/vmlet/pkg/log"
	"github.com/vmlet/vmlet/pkg/vm"
)

// Why an operation must come to its end.
const (
	finalDisk    = "a snapshot of a disk alone takes no time"
	finalTaken   = "what it was to take is taken"
	finalRestore = "the state that the VM had before is given up by now"
	finalDelete  = "a part of what the snapshot holds may be given back already"
	finalUndone  = "a restart of vmlet has cut it short, and it is being undone"
	notBegun     = "it has not begun yet; try again"
)

// restorePace is the slowest that memory is expected to be read, in bytes a second: libvirt tells nothing of how far that is.
const restorePace = 16 * vm.MiB

// restoreTimeout bounds a restore by what it has to read.
func (s *Service) restoreTimeout(sandboxID string) time.Duration {
	timeout := workTimeout
	if sb, err := s.deps.Store.Sandboxes.Get(sandboxID); err == nil {
		for _, snap := range s.presentTree(sb).Snapshots {
			if snap.Memory != nil {
				timeout = max(timeout, workTimeout+time.Duration(snap.Memory.Size/restorePace)*time.Second)
			}
		}
	}
	return timeout
}

// writeSnapshot has libvirt take a snapshot, tells how far its memory is, and lets it be cancelled until it is written. Where
// the service ends first, libvirt goes on by itself: see adoptSnapshot.
func (s *Service) writeSnapshot(ctx context.Context, sandboxID string, what vm.Snapshotting) error {
	if what.Memory == "" {
		return s.deps.Hypervisor.Snapshot(ctx, sandboxID, what)
	}
	op := s.operations.at(sandboxID)
	writing, stop := s.untilClosed(ctx)
	defer stop()
	noMore, wanted := op.mayBeCancelled(func(ctx context.Context) error { return s.deps.Hypervisor.AbortSaving(ctx, sandboxID) })
	if !wanted {
		return errCancelled
	}
	done := s.track(writing, sandboxID, func(ctx context.Context) (vm.Progress, error) { return s.deps.Hypervisor.Progress(ctx, sandboxID) })
	err := s.deps.Hypervisor.Snapshot(writing, sandboxID, what)
	done()
	noMore(finalTaken)
	switch {
	case err == nil:
		return nil
	case op.isCancelled():
		return errCancelled
	case ctx.Err() != nil:
		s.abortSaving(ctx, sandboxID)
	}
	return err
}

// abortSaving has libvirt give up what nobody waits for any more.
func (s *Service) abortSaving(ctx context.Context, sandboxID string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTimeout)
	defer cancel()
	if err := s.deps.Hypervisor.AbortSaving(ctx, sandboxID); err != nil {
		log.From(ctx).Warn("libvirt was not told to give a snapshot up", zap.String("sandbox", sandboxID), zap.Error(err))
	}
}

// adoptSnapshot goes on with a snapshot with memory that an earlier life had begun: libvirt has gone on with it by itself. Once
// it has ended it is on record as taken where QEMU writes to the new file, which it does only when all of its memory is
// written; else it is undone.
func (s *Service) adoptSnapshot(ctx context.Context, op *operation) error {
	still := s.stills.begin(op.sandboxID)
	err := s.awaitSaved(ctx, op)
	paused := still.end(time.Now())
	if err == nil {
		err = s.recordAdopted(ctx, op, paused)
	}
	if err == nil || s.life.Err() != nil {
		return err
	}
	if undoErr := errors.Join(s.undoSnapshot(s.life, op.sandboxID), s.tidyLayers(s.life, op.sandboxID)); undoErr != nil { //nolint:contextcheck // it must be undone, also where it has taken too long
		log.From(ctx).Warn("a snapshot that was cut short is not undone yet", zap.String("sandbox", op.sandboxID), zap.Error(undoErr))
		s.undoSnapshotLater(op.sandboxID) //nolint:contextcheck // it outlives the operation
	}
	return err
}

// awaitSaved waits until libvirt is at no snapshot of a sandbox any more.
func (s *Service) awaitSaved(ctx context.Context, op *operation) error {
	ctx, stop := s.untilClosed(ctx)
	defer stop()
	noMore, _ := op.mayBeCancelled(func(ctx context.Context) error { return s.deps.Hypervisor.AbortSaving(ctx, op.sandboxID) })
	defer noMore(finalTaken)
	defer s.track(ctx, op.sandboxID, func(ctx context.Context) (vm.Progress, error) { return s.deps.Hypervisor.Progress(ctx, op.sandboxID) })()
	look := time.NewTicker(progressLook)
	defer look.Stop()
	for {
		saving, err := s.deps.Hypervisor.Saving(ctx, op.sandboxID)
		if err == nil && !saving || errors.Is(err, errdefs.ErrNotFound) || errors.Is(err, errdefs.ErrFailedPrecondition) {
			return nil
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			if !op.isCancelled() && s.life.Err() == nil {
				s.abortSaving(ctx, op.sandboxID)
			}
			return context.Cause(ctx)
		}
	}
}

// recordAdopted records a snapshot whose memory libvirt has written to its end.
func (s *Service) recordAdopted(ctx context.Context, op *operation, paused time.Duration) error {
	unlock, err := s.locks.Lock(ctx, op.sandboxID)
	if err != nil {
		return err
	}
	defer unlock()
	sb, err := s.deps.Store.Sandboxes.Get(op.sandboxID)
	if err != nil {
		return err
	}
	t, snap, ok := snapshotOf(s.treesOf(sb), op.record.Object)
	if !ok || snap.State != vm.SnapshotCreating {
		return outcome(s.lastTreesOf(sb.ID), op.record)
	}
	d, err := s.deps.Hypervisor.Domain(ctx, sb.ID)
	if err != nil || !d.State.Active() {
		return errors.Join(err, errCutShort)
	}
	switched, err := s.writesTo(ctx, sb.ID, snap.Disk.Next)
	if err != nil {
		return err
	}
	usage, err := s.deps.Disks.FileUsage(ctx, s.cfg.Paths.SnapshotMemory(sb.ID, snap.ID))
	switch {
	case err != nil:
		return err
	case op.isCancelled() && !switched:
		return errCancelled
	case !switched || usage.UsedInodes == 0:
		return errCutShort
	}
	_, disk, err := s.bootDisk(sb)
	if err == nil {
		err = s.sameNVRAM(ctx, disk.Disk, snap) // which may be of another time by now
	}
	if err != nil {
		return err
	}
	memory := *snap.Memory
	memory.Size = int64(usage.UsedBytes)
	snap.Memory, snap.Paused = &memory, paused
	return s.recordTaken(t, snap, vm.SnapshotReady)
}

// seeThrough goes on with what was begun and has failed for now, or was cut short, until it is done.
func (s *Service) seeThrough(op *operation) error {
	ctx := log.With(s.life, zap.String("sandbox", op.sandboxID))
	switch op.record.Kind {
	case vm.OperationSnapshotCreate, vm.OperationCheckpoint:
	case vm.OperationSnapshotRestore:
		s.look(ctx, op.sandboxID)
	case vm.OperationSnapshotDelete:
		again(ctx, "a snapshot that is being deleted", func(ctx context.Context) error {
			return s.layered(ctx, op, func(ctx context.Context) error { return s.tidyLayers(ctx, op.sandboxID) })
		})
	}
	if s.life.Err() != nil {
		return errNextLife
	}
	sb, err := s.deps.Store.Sandboxes.Get(op.sandboxID)
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	err = outcome(s.lastTreesOf(sb.ID), op.record)
	if err == nil && op.record.Kind == vm.OperationSnapshotDelete {
		s.tell(vm.VMEvent{SandboxID: sb.ID, Kind: vm.SnapshotDeletedEvent, Subject: op.record.Subject})
	}
	return err
}

// outcome finds in the trees of a sandbox how an operation has ended whose end is not on record. Pure.
func outcome(trees []diskTree, o vm.Operation) error {
	_, snap, there := snapshotOf(trees, o.Object)
	switch o.Kind {
	case vm.OperationSnapshotCreate:
		if there && snap.State == vm.SnapshotReady {
			return nil
		}
	case vm.OperationSnapshotDelete:
		if !there {
			return nil
		}
		if snap.State == vm.SnapshotDeleting {
			return errLeftToNext
		}
	case vm.OperationSnapshotRestore:
		if slices.ContainsFunc(trees, func(t diskTree) bool { return wasRestored(t, o.Object) }) {
			return nil
		}
		return fmt.Errorf("the VM could not be restored, and its disk is as it was before: %w", errdefs.ErrAborted)
	case vm.OperationCheckpoint:
		if o.Object == checkpointWhole {
			return nil
		}
	}
	return errCutShort
}

// wasRestored tells whether the disk that a restore made is in a tree. Pure.
func wasRestored(t diskTree, path string) bool {
	if slices.ContainsFunc(t.Disks, func(d vm.Disk) bool { return d.Path == path }) {
		return true
	}
	return slices.ContainsFunc(t.Layers, func(l vm.Layer) bool { // another snapshot was taken since
		return l.Path == path && slices.ContainsFunc(t.Snapshots, func(s vm.Snapshot) bool { return s.Disk.Layer == l.ID })
	})
}
