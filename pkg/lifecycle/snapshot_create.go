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

// CreateSnapshot takes a snapshot of a VM's root disk, of its data disks whose files are ours and, if asked for, of its
// memory: of a VM that runs, is paused or is off. The guest runs on but for the moment that Snapshot.Paused tells. ref is as in sandboxOf.
//
// AlreadyExists for a name that the VM has a snapshot of; FailedPrecondition where the VM is being stopped, rebooted or
// restored, where memory is asked for of a VM that is off, or that has what QEMU cannot save. Nothing less than what was
// asked for is ever taken. A caller that goes away leaves the work under way.
func (s *Service) CreateSnapshot(ctx context.Context, ref string, req vm.SnapshotRequest) (info vm.SnapshotInfo, err error) {
	op, err := s.beginSnapshot(ctx, ref, req)
	if err != nil {
		return info, err
	}
	if err := op.wait(ctx); err != nil {
		return info, err
	}
	return s.Snapshot(ctx, op.sandboxID, req.Name)
}

// DetachSnapshot is CreateSnapshot that returns once the operation is on record; errors are those of what cannot begin.
func (s *Service) DetachSnapshot(ctx context.Context, ref string, req vm.SnapshotRequest) (vm.OperationInfo, error) {
	op, err := s.beginSnapshot(ctx, ref, req)
	return s.detached(ctx, op, err)
}

func (s *Service) beginSnapshot(ctx context.Context, ref string, req vm.SnapshotRequest) (*operation, error) {
	if err := vm.CheckSnapshotName(req.Name); err != nil {
		return nil, err
	}
	a := longCall{
		kind: vm.OperationSnapshotCreate, subject: req.Name, key: fmt.Sprintf("%t %t %q", req.Memory, req.Quiesce, req.Description),
		final: finalDisk,
	}
	if req.Memory {
		a.final = notBegun
	}
	return s.operate(ctx, ref, a, func(ctx context.Context, op *operation) error {
		return s.layered(ctx, op, func(ctx context.Context) error {
			return s.observed("snapshot_create", func() error { return s.createSnapshot(ctx, op.sandboxID, req) })
		})
	})
}

func (s *Service) createSnapshot(ctx context.Context, sandboxID string, req vm.SnapshotRequest) (err error) {
	for range snapshotTries {
		if err = s.trySnapshot(ctx, sandboxID, req); !errors.Is(err, errNVRAMChanged) || s.life.Err() != nil {
			break
		}
	}
	return err
}

func (s *Service) trySnapshot(ctx context.Context, sandboxID string, req vm.SnapshotRequest) error {
	if err := s.freeName(ctx, sandboxID, req.Name); err != nil {
		return err
	}
	t, snap, err := s.intendSnapshot(ctx, sandboxID, req)
	if err != nil || snap.Machine == vm.DomainShutoff {
		return err
	}
	if err = s.takeSnapshot(ctx, t, snap); err == nil {
		return nil
	}
	if s.life.Err() != nil { // libvirt may be at it still: see adoptSnapshot
		return errors.Join(err, errNextLife)
	}
	undone, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	undoErr := s.undoSnapshot(undone, sandboxID)
	if undoErr == nil {
		undoErr = s.tidyLayers(undone, sandboxID)
	}
	if undoErr != nil {
		log.From(ctx).Warn("a snapshot that failed is not undone yet", zap.String("sandbox", sandboxID), zap.Error(undoErr))
		s.undoSnapshotLater(sandboxID) //nolint:contextcheck // it outlives the call
	}
	return err
}

// freeName has a snapshot of the name that was not taken to its end, or is being deleted, be gone first: who repeats a call
// that failed would be told that there is one.
func (s *Service) freeName(ctx context.Context, sandboxID, name string) error {
	if err := s.undoSnapshot(ctx, sandboxID); err != nil {
		return err
	}
	sb, err := s.deps.Store.Sandboxes.Get(sandboxID)
	if err != nil {
		return err
	}
	if old, err := snapshotNamed(s.presentTree(sb), name); err != nil || old.State != vm.SnapshotDeleting {
		return nil //nolint:nilerr // there is none of the name
	}
	return s.tidyLayers(ctx, sandboxID)
}

// intendSnapshot judges what is asked for and records it.
func (s *Service) intendSnapshot(ctx context.Context, sandboxID string, req vm.SnapshotRequest) (t diskTree, snap vm.Snapshot, err error) {
	unlock, err := s.locks.Lock(ctx, sandboxID)
	if err != nil {
		return t, snap, err
	}
	defer unlock()
	sb, err := s.deps.Store.Sandboxes.Get(sandboxID)
	if err != nil {
		return t, snap, err
	}
	if err := mayHaveSnapshots(sb); err != nil {
		return t, snap, err
	}
	if st := sb.Status.State; st != vm.SandboxReady && st != vm.SandboxNotReady {
		return t, snap, fmt.Errorf("it is %s: %w", st, errdefs.ErrFailedPrecondition)
	}
	if err := s.gate(sb, vm.GateSnapshots); err != nil {
		return t, snap, err
	}
	if old, err := snapshotNamed(s.presentTree(sb), req.Name); err == nil {
		return t, snap, fmt.Errorf("there is one of that name, of %s; delete it or take another name: %w",
			old.CreatedAt.Format("2006-01-02 15:04:05 MST"), errdefs.ErrAlreadyExists)
	}
	c, disk, err := s.bootDisk(sb)
	if err != nil {
		return t, snap, err
	}
	t = disk.tree
	if snap, err = s.newSnapshot(sb, c, disk, req); err != nil {
		return t, snap, err
	}
	if err := s.isAsRecorded(ctx, t, disk.Disk, snap); err != nil {
		return t, snap, err
	}
	if t, err = s.intendInTree(t, "snapshot intended", snap.ID, func(t vm.DiskTree) (vm.DiskTree, error) {
		t.Snapshots = withSnapshot(t.Snapshots, snap)
		return t, nil
	}); err != nil {
		return t, snap, err
	}
	// Under the lock: whoever finds the intent and no file knows that no QEMU has written to it, nor will.
	if err := s.makeNexts(ctx, t.DiskTree, disk.Disk, snap); err != nil {
		return t, snap, errors.Join(err, s.undoSnapshotLocked(context.WithoutCancel(ctx), sandboxID))
	}
	if snap.Machine == vm.DomainShutoff { // nor may anybody start it meanwhile
		if err = s.copyNVRAM(ctx, disk.Disk, snap); err == nil {
			err = s.recordTaken(t, snap, vm.SnapshotReady)
		}
		if err != nil {
			return t, snap, errors.Join(err, s.undoSnapshotLocked(context.WithoutCancel(ctx), sandboxID))
		}
	}
	return t, snap, nil
}

// isAsRecorded is Unavailable where libvirt has a VM, or its disks, otherwise than the record.
func (s *Service) isAsRecorded(ctx context.Context, t diskTree, disk vm.Disk, snap vm.Snapshot) error {
	chains, err := s.chainsOf(ctx, t.sandboxID)
	if err != nil || len(chains) > 0 == (snap.Machine == vm.DomainShutoff) {
		return errors.Join(err, fmt.Errorf("libvirt has it otherwise than the record, which says that it is %s; try again: %w",
			snap.Machine, errdefs.ErrUnavailable))
	}
	if snap.Machine == vm.DomainShutoff {
		return nil
	}
	switches, err := switchesOf(t.DiskTree, disk, snap)
	if err != nil {
		return err
	}
	return writtenTo(chains, switches)
}

func (s *Service) newSnapshot(sb vm.Sandbox, c vm.Container, disk diskInTree, req vm.SnapshotRequest) (vm.Snapshot, error) {
	next := newID()
	file := s.layeredDisk(disk.tree, next)
	snap := vm.Snapshot{
		ID: newID(), Name: req.Name, Description: req.Description, State: vm.SnapshotCreating, CreatedAt: s.now(), Parent: disk.tree.Current,
		Machine: vm.DomainShutoff, Consistency: vm.ConsistencyOff, Checkpoint: req.Checkpoint,
		Disk: vm.SnapshotDisk{
			Container: disk.Container, ImageID: disk.ImageID, Layer: next, Next: file, Size: disk.Size,
			NVRAM: nvramBeside(file, disk.Disk),
		},
	}
	if c.Status.Live() {
		snap.ContainerID = c.ID
	}
	switch c.Status.State {
	case vm.ContainerCreating, vm.ContainerStarting:
		return snap, fmt.Errorf("container %s is %s: %w", c.ID, c.Status.State, errdefs.ErrFailedPrecondition)
	case vm.ContainerCreated, vm.ContainerExited, vm.ContainerRemoving:
	case vm.ContainerRunning:
		if err := settled(c); err != nil {
			return snap, err
		}
		if c.Status.Off() {
			break
		}
		snap.Machine, snap.Consistency = vm.DomainRunning, vm.ConsistencyCrash
		if c.Status.Paused {
			snap.Machine = vm.DomainPaused
		}
	}
	if err := mayQuiesce(c, req); err != nil {
		return snap, err
	}
	var err error
	if snap.DataDisks, snap.LeftOut, err = s.partsOf(sb, disk.tree); err != nil {
		return snap, err
	}
	if req.Quiesce {
		snap.Consistency = vm.ConsistencyFiles
	}
	if !req.Memory {
		return snap, nil
	}
	if !c.Status.Runs() {
		return snap, fmt.Errorf("there is no memory to take: no VM runs in it: %w", errdefs.ErrFailedPrecondition)
	}
	if err := s.mayGoWithoutShare(sb, c); err != nil {
		return snap, err
	}
	if err := mayTakeMemory(sb, c); err != nil {
		return snap, err
	}
	if err := mayLeaveOut(disk.tree, snap.LeftOut); err != nil {
		return snap, err
	}
	snap.Consistency = vm.ConsistencyMemory
	snap.Memory = &vm.SnapshotMemory{Machine: c.Status.Size, DataDisks: readOnlyDisks(sb)}
	return snap, nil
}

// settled refuses what is to be done to a VM in a state that lasts, while that changes.
func settled(c vm.Container) error {
	if err := leaving(c); err != nil {
		return err
	}
	st := c.Status
	switch {
	case st.Reboot != nil:
		return fmt.Errorf("it is being rebooted: %w", errdefs.ErrFailedPrecondition)
	case st.Restore != nil:
		return fmt.Errorf("it is being restored: %w", errdefs.ErrFailedPrecondition)
	case st.Resize != nil:
		return errResizing
	}
	return nil
}

// leaving refuses what takes a guest that is there for a while, where it is being ended, or made again after a poweroff.
func leaving(c vm.Container) error {
	st := c.Status
	switch {
	case st.Stop != nil || st.MainExit != nil:
		return fmt.Errorf("it is being stopped: %w", errdefs.ErrFailedPrecondition)
	case st.PowerOff != nil && (!st.Off() || st.PowerOff.Booting):
		return fmt.Errorf("it is being powered off or on: %w", errdefs.ErrFailedPrecondition)
	}
	return nil
}

// takeSnapshot does what is on record, without the sandbox's lock: memory takes long to write.
func (s *Service) takeSnapshot(ctx context.Context, t diskTree, snap vm.Snapshot) error {
	sb, err := s.deps.Store.Sandboxes.Get(t.sandboxID)
	if err != nil {
		return err
	}
	c, disk, err := s.bootDisk(sb)
	if err != nil {
		return err
	}
	var what vm.Snapshotting
	if what.Disks, err = switchesOf(disk.tree.DiskTree, disk.Disk, snap); err != nil {
		return err
	}
	take := func(ctx context.Context) error {
		still := s.stills.begin(sb.ID)
		err := s.quiesced(ctx, snap, sb.ID, func(ctx context.Context) error {
			return s.withNVRAM(ctx, disk.Disk, snap, func(ctx context.Context) error { return s.writeSnapshot(ctx, sb.ID, what) })
		})
		snap.Paused = still.end(time.Now())
		return err
	}
	if snap.Memory == nil {
		err = take(ctx)
	} else {
		what.Memory = s.cfg.Paths.SnapshotMemory(sb.ID, snap.ID)
		err = s.withoutShare(ctx, sb, c, take)
	}
	if err != nil {
		return err
	}
	if snap.Memory != nil {
		usage, err := s.deps.Disks.FileUsage(ctx, what.Memory)
		if err != nil {
			return err
		}
		memory := *snap.Memory
		memory.Size = int64(usage.UsedBytes)
		snap.Memory = &memory
	}
	unlock, err := s.locks.Lock(ctx, sb.ID)
	if err != nil {
		return err
	}
	defer unlock()
	return s.recordTaken(disk.tree, snap, vm.SnapshotReady)
}

// makeNext makes the file that the guest writes to from the snapshot on.
func (s *Service) makeNext(ctx context.Context, disk vm.Disk, snap vm.Snapshot) error {
	next := disk
	next.Path, next.Backing, next.BackingFormat = snap.Disk.Next, disk.Path, vm.FormatQCOW2
	return s.deps.Disks.CreateRoot(ctx, next)
}

// recordTaken records that the disks are layers now, and the guest writes to other files on them.
func (s *Service) recordTaken(t diskTree, snap vm.Snapshot, state vm.SnapshotState) error {
	_, err := s.updateTree(t, "snapshot taken", func(t vm.DiskTree) (vm.DiskTree, error) {
		i := slices.IndexFunc(t.Disks, func(d vm.Disk) bool { return isOf(d, snap) })
		if now, ok := snapshotByID(t, snap.ID); i < 0 && state == vm.SnapshotReady || !ok || now.State != vm.SnapshotCreating {
			return t, fmt.Errorf("the VM has ended meanwhile: %w", errdefs.ErrAborted)
		}
		if i >= 0 {
			layer := asLayer(snap.Disk.Layer, t.Disks[i])
			layer.NVRAM = snap.Disk.NVRAM // a copy: the disk has the file that QEMU has
			t.Layers = withLayer(t.Layers, layer)
			t.Disks = withDisk(t.Disks, layer.Path, overLayer(t.Disks[i], layer, snap.Disk.Next))
		}
		t = partsTaken(t, snap)
		t.Stale = true
		done := withoutNexts(snap)
		done.State = state
		t.Snapshots = withSnapshot(t.Snapshots, done)
		if state == vm.SnapshotReady && snap.Checkpoint == nil {
			t.Current = snap.ID
		}
		return t, nil
	})
	if err == nil && state == vm.SnapshotReady && snap.Checkpoint == nil {
		s.tell(vm.VMEvent{SandboxID: t.sandboxID, Kind: vm.SnapshotCreatedEvent, Subject: snap.Name})
	}
	return err
}

// isOf tells whether a disk is the one that a snapshot is of, or was taken of.
func isOf(d vm.Disk, snap vm.Snapshot) bool {
	return d.Container == snap.Disk.Container && d.ImageID == snap.Disk.ImageID
}
