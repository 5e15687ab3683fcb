// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/annotations"
	"github.com/vmlet/vmlet/pkg/revert"
	"github.com/vmlet/vmlet/pkg/vm"
)

// checkpointName begins the names of snapshots that checkpoints are made of. No name that is asked for holds a colon.
const checkpointName = "checkpoint:"

func isForCheckpoint(snap vm.Snapshot) bool { return strings.HasPrefix(snap.Name, checkpointName) }

// checkpointID is the ID of the checkpoint that a snapshot is for.
func checkpointID(snap vm.Snapshot) string { return strings.TrimPrefix(snap.Name, checkpointName) }

// Checkpoint writes a VM that runs, with its memory, its root disk and the data disks that are ours, into a folder. It is a
// snapshot that is copied out, and given up: the guest has gone on before the first byte is copied, and its disks are as they
// were afterwards. ref is as in sandboxOf.
//
// FailedPrecondition for a VM that does not run, that is being stopped, rebooted or restored, or that has what is not
// written: a caller's file or device that its guest can write to, a persistent root disk; and for one whose guest cannot be
// without its share for a moment. Unavailable while its devices or its size change. Unlike other work it ends with its caller,
// who relies on finding nothing in the folder after an error: it is cancelled, and this returns when all of it is gone.
func (s *Service) Checkpoint(ctx context.Context, ref, dir string) (c vm.Checkpoint, err error) {
	op, err := s.beginCheckpoint(ctx, ref, dir, &c)
	if err != nil {
		return c, err
	}
	stay := context.AfterFunc(ctx, func() { s.endWithCaller(op) })
	defer stay()
	if err = op.wait(context.WithoutCancel(ctx)); err != nil && ctx.Err() != nil && !errors.Is(err, revert.ErrIncomplete) {
		err = fmt.Errorf("%s of sandbox %s ended with its caller: %w", op.what(), op.sandboxID, ctx.Err())
	}
	return c, err
}

// checkpoint does the work of Checkpoint under the lock of the sandbox's layers.
func (s *Service) checkpoint(ctx context.Context, sandboxID, dir string) (c vm.Checkpoint, err error) {
	c, err = s.machineNow(ctx, sandboxID)
	if err != nil {
		return c, err
	}
	where, err := s.deps.Disks.PlanCheckpoint(ctx, dir)
	if err != nil {
		return c, err
	}
	name := checkpointName + newID()
	if err := s.createSnapshot(ctx, sandboxID, vm.SnapshotRequest{Name: name, Memory: true, Checkpoint: &where}); err != nil {
		return c, err
	}
	defer s.tidyLater(sandboxID) //nolint:contextcheck // nobody waits for the room that it took
	rev := revert.New(ctx)
	defer rev.Fail(&err) //nolint:contextcheck // it has ctx since New
	rev.Add("checkpoint", func(context.Context) error {
		err := s.giveUpCheckpoint(sandboxID, name, false)
		if errors.Is(err, errdefs.ErrNotFound) {
			return nil // it went with its sandbox
		}
		return err
	})
	if err = s.isStill(ctx, sandboxID, c); err != nil {
		return c, err
	}
	if c, err = s.writeCheckpoint(ctx, rev, sandboxID, name, where, c); err != nil {
		return c, err
	}
	if err := s.giveUpCheckpoint(sandboxID, name, true); err != nil {
		return c, err
	}
	rev.Success()
	return c, nil
}

// machineNow is the manifest of a checkpoint as far as it follows from the records. It refuses a VM that a checkpoint would not
// hold all of. What else may stand in its way the snapshot sees.
func (s *Service) machineNow(ctx context.Context, sandboxID string) (out vm.Checkpoint, err error) {
	sb, err := s.deps.Store.Sandboxes.Get(sandboxID)
	if err != nil {
		return out, err
	}
	c, ok := s.liveContainer(sandboxID)
	if !ok || !c.Status.Runs() {
		return out, fmt.Errorf("no VM runs in it: %w", errdefs.ErrFailedPrecondition)
	}
	if err := holdsDevices(sb, c); err != nil {
		return out, err
	}
	if len(s.heldBy(sb)) > 0 {
		return out, fmt.Errorf("its root disk is persistent, which a checkpoint does not hold: %w", errdefs.ErrFailedPrecondition)
	}
	ask, err := annotations.Parse(sb.Spec.AllSettings())
	if err != nil {
		return out, err
	}
	out = vm.Checkpoint{
		SandboxID: sb.ID, ContainerID: c.ID, Sandbox: sb.Present(), Container: c.Present(),
		MainID: c.GuestID(), MainStarted: c.Status.MainStarted, Share: len(c.Status.Shares) > 0,
		Firmware: firmwareOf(ask), Machine: c.Status.Size, Asked: askedAnywhere(c.Status.Asked), Accel: s.Accel(),
	}
	if out.Configured, err = sizeOf(out.Sandbox, out.Container, ask, *s.defaults.Load(), s.Accel()); err != nil {
		return out, fmt.Errorf("its configuration makes no machine any more, so nobody could restore it: %w", err)
	}
	err = s.heldDevices(ctx, sb, &out)
	out.Version = out.LeastVersion()
	return out, err
}

// isStill is Unavailable if a VM has become another one since, such as with a NIC more: its memory may be of before or after
// that.
func (s *Service) isStill(ctx context.Context, sandboxID string, before vm.Checkpoint) error {
	if c, live := s.liveContainer(sandboxID); !live || !c.Status.Runs() {
		return nil // it has ended since, as it was
	}
	now, err := s.machineNow(ctx, sandboxID)
	if err == nil && !reflect.DeepEqual(now, before) {
		err = fmt.Errorf("its devices, limits or size have changed while its memory was taken; try again: %w", errdefs.ErrUnavailable)
	}
	return err
}

// writeCheckpoint copies what a snapshot has into the folder. The guest runs on; its container may end meanwhile.
func (s *Service) writeCheckpoint(
	ctx context.Context, rev *revert.Reverter, sandboxID, name string, where vm.CheckpointFolder, out vm.Checkpoint,
) (vm.Checkpoint, error) {
	sb, err := s.deps.Store.Sandboxes.Get(sandboxID)
	if err != nil {
		return out, err
	}
	snap, err := snapshotNamed(ownTree(sb), name)
	if err != nil {
		return out, err
	}
	if out, err = s.manifestOf(ctx, out, snap); err != nil {
		return out, err
	}
	files, err := s.copiedFiles(sb, snap, out)
	if err != nil {
		return out, err
	}
	for _, f := range files {
		rev.Add("checkpoint file "+f.name, func(ctx context.Context) error {
			return s.deps.Disks.RemoveCheckpoint(ctx, where, out.ID)
		})
		file, err := s.copyOut(ctx, where, sandboxID, f)
		if err != nil {
			return out, err
		}
		out.Files = append(out.Files, file)
	}
	return out, s.deps.Disks.EndCheckpoint(ctx, where, out)
}

// manifestOf says what a checkpoint is of: a machine, and what came of its snapshot.
func (s *Service) manifestOf(ctx context.Context, out vm.Checkpoint, snap vm.Snapshot) (_ vm.Checkpoint, err error) {
	out.ID, out.CreatedAt, out.DiskSize, out.Paused = checkpointID(snap), snap.CreatedAt, snap.Disk.Size, snap.Paused
	if host := s.host.Load(); host != nil {
		out.Libvirt, out.QEMU = host.Libvirt, host.QEMU
	}
	out.MachineType, err = s.deps.Hypervisor.SavedMachine(ctx, s.cfg.Paths.SnapshotMemory(out.SandboxID, snap.ID))
	return out, err
}

// giveUpCheckpoint records that a checkpoint's snapshot is needed no more. One that is written is its caller's from then on,
// and any other is removed before the record goes.
func (s *Service) giveUpCheckpoint(sandboxID, name string, written bool) error {
	step := "checkpoint given up"
	if written {
		step = "checkpoint written"
	}
	_, err := s.updateSandbox(sandboxID, step, func(st vm.SandboxStatus) (vm.SandboxStatus, error) {
		for _, snap := range st.Snapshots {
			if snap.Name != name {
				continue
			}
			if written {
				snap.Checkpoint = nil
				st = s.withOperation(st, sandboxID, checkpointWhole)
			}
			snap.State = vm.SnapshotDeleting
			st.Snapshots = withSnapshot(st.Snapshots, snap)
			return st, nil
		}
		return st, fmt.Errorf("the sandbox was removed meanwhile: %w", errdefs.ErrAborted)
	})
	return err
}

// removeCheckpoint removes what was written for a snapshot, if it is a checkpoint's that did not come to its end. Idempotent.
func (s *Service) removeCheckpoint(ctx context.Context, sandboxID string, snap vm.Snapshot) error {
	if !isForCheckpoint(snap) {
		return nil
	}
	if snap.Checkpoint != nil {
		if err := s.deps.Disks.RemoveCheckpoint(ctx, *snap.Checkpoint, checkpointID(snap)); err != nil {
			return err
		}
	}
	return s.deps.Disks.RemoveFile(ctx, s.cfg.Paths.CheckpointDisk(sandboxID, checkpointID(snap)))
}

// removeCheckpoints is removeCheckpoint for all of a sandbox that is being removed.
func (s *Service) removeCheckpoints(ctx context.Context, sandboxID string) error {
	sb, err := s.deps.Store.Sandboxes.Get(sandboxID)
	if err != nil {
		return err
	}
	for _, snap := range sb.Status.Snapshots {
		if err := s.removeCheckpoint(ctx, sandboxID, snap); err != nil {
			return err
		}
	}
	return nil
}

// undoCheckpoints gives up, after a crash, what was being written: whoever asked for it was told of an error. The files go
// with the layers, in the background.
func (s *Service) undoCheckpoints(sb vm.Sandbox) (vm.Sandbox, error) {
	sb, err := s.deps.Store.Sandboxes.Get(sb.ID)
	if err != nil {
		return sb, err
	}
	for _, snap := range sb.Status.Snapshots {
		if snap.Checkpoint == nil || snap.State == vm.SnapshotDeleting {
			continue
		}
		if err := s.giveUpCheckpoint(sb.ID, snap.Name, false); err != nil {
			return sb, err
		}
	}
	return s.deps.Store.Sandboxes.Get(sb.ID)
}
