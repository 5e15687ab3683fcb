// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
	"go.uber.org/zap"

	"github.com/vmlet/vmlet/pkg/log"
	"github.com/vmlet/vmlet/pkg/revert"
	"github.com/vmlet/vmlet/pkg/vm"
)

// RestoreSnapshot puts a VM back to a snapshot. What its disk has become since is given up, unless another snapshot has
// it. A VM that runs gets another QEMU: with the memory of the snapshot its guest goes on in that moment, without it boots.
// One that is off finds its disk changed when it is next started. The container, its addresses and its log go on.
//
// FailedPrecondition where the VM is being stopped, rebooted or restored, where the snapshot is of another image's disk,
// or where its memory is of another container or machine than the VM has now. ref is as in sandboxOf. A caller that goes
// away leaves the work under way, and so does the end of vmlet.
func (s *Service) RestoreSnapshot(ctx context.Context, ref string, req vm.RestoreRequest) error {
	op, err := s.beginRestore(ctx, ref, req)
	if err != nil {
		return err
	}
	return op.wait(ctx)
}

// DetachRestoreSnapshot is RestoreSnapshot that returns once the operation is on record.
func (s *Service) DetachRestoreSnapshot(ctx context.Context, ref string, req vm.RestoreRequest) (vm.OperationInfo, error) {
	op, err := s.beginRestore(ctx, ref, req)
	return s.detached(ctx, op, err)
}

func (s *Service) beginRestore(ctx context.Context, ref string, req vm.RestoreRequest) (*operation, error) {
	a := longCall{
		kind: vm.OperationSnapshotRestore, subject: req.Name, key: fmt.Sprintf("%t %t", req.Paused, req.DiskOnly),
		final: finalRestore,
	}
	return s.operate(ctx, ref, a, func(ctx context.Context, op *operation) error {
		return s.layered(ctx, op, func(ctx context.Context) error {
			timeout := s.restoreTimeout(op.sandboxID)
			op.alive(2 * timeout) // libvirt does not tell how far it is
			ctx, cancel := context.WithTimeout(ctx, timeout)
			defer cancel()
			return s.observed("snapshot_restore", func() error {
				if err := s.restoreSnapshot(ctx, op.sandboxID, req); err != nil || req.DiskOnly {
					return err
				}
				return s.rejoin(ctx, op.sandboxID)
			})
		})
	})
}

func (s *Service) restoreSnapshot(ctx context.Context, sandboxID string, req vm.RestoreRequest) error {
	unlock, err := s.locks.Lock(ctx, sandboxID)
	if err != nil {
		return err
	}
	defer unlock()
	if c, ok := s.liveContainer(sandboxID); ok && c.Status.Restore != nil { // of a call that could not
		if err := s.finishRestore(ctx, c); err != nil {
			return err
		}
	}
	if err := s.undoSnapshotLocked(ctx, sandboxID); err != nil {
		return err
	}
	sb, err := s.deps.Store.Sandboxes.Get(sandboxID)
	if err != nil {
		return err
	}
	if err := mayHaveSnapshots(sb); err != nil {
		return err
	}
	if st := sb.Status.State; st != vm.SandboxReady && st != vm.SandboxNotReady {
		return fmt.Errorf("it is %s: %w", st, errdefs.ErrFailedPrecondition)
	}
	if err := s.gate(sb, vm.GateSnapshots); err != nil {
		return err
	}
	snap, err := snapshotNamed(s.presentTree(sb), req.Name)
	if err != nil {
		return err
	}
	c, disk, err := s.bootDisk(sb)
	if err != nil {
		return err
	}
	t := disk.tree
	if err := mayRestore(sb, c, disk.Disk, snap, req); err != nil {
		return err
	}
	layer, ok := layerByID(t.DiskTree, snap.Disk.Layer)
	if !ok {
		return fmt.Errorf("its disk is not on record: %w", errdefs.ErrDataLoss)
	}
	parts, err := s.restoredParts(sb, snap, snap.Memory != nil && !req.DiskOnly)
	if err != nil {
		return err
	}
	next := overLayer(disk.Disk, layer, s.layeredDisk(t, newID()))
	next.NVRAM = nvramBeside(next.Path, disk.Disk)
	intent := vm.RestoreIntent{
		SnapshotID: snap.ID, WasCurrent: t.Current, Was: disk.Disk, Next: next,
		DataDisks: parts, Memory: snap.Memory != nil && !req.DiskOnly, Paused: req.Paused,
	}
	if !c.Status.Runs() {
		return s.restoreAtRest(ctx, t, intent)
	}
	if err := s.recordOperation(sb.ID, intent.Next.Path); err != nil {
		return err
	}
	if c, err = s.recordRestore(c, "restore intended", &intent); err != nil {
		return err
	}
	err = s.finishRestore(ctx, c)
	if now, getErr := s.deps.Store.Containers.Get(c.ID); err != nil && getErr == nil && now.Status.Restore != nil {
		err = goesOnError{fmt.Errorf("the restore goes on: %w", err)}
	}
	return err
}

// mayRestore refuses what could not be restored as it was.
func mayRestore(sb vm.Sandbox, c vm.Container, disk vm.Disk, snap vm.Snapshot, req vm.RestoreRequest) error {
	memory := snap.Memory != nil && !req.DiskOnly
	switch {
	case snap.State != vm.SnapshotReady:
		return fmt.Errorf("the snapshot is %s: %w", snap.State, errdefs.ErrFailedPrecondition)
	case snap.MemoryGone && !req.DiskOnly:
		return fmt.Errorf("the memory of the snapshot has gone with the sandbox that it was taken in; restore its disk alone (--disk-only): %w", errdefs.ErrFailedPrecondition)
	case !isOf(disk, snap):
		return fmt.Errorf("the snapshot is of the disk of container %s with image %s, and the VM has that of container %s with image %s: %w",
			snap.Disk.Container, snap.Disk.ImageID, disk.Container, disk.ImageID, errdefs.ErrFailedPrecondition)
	case c.Status.Runs() || c.Status.Off() && c.Status.PowerOff.Booting:
		if err := settled(c); err != nil {
			return err
		}
	case c.Status.State == vm.ContainerStarting || c.Status.State == vm.ContainerCreating:
		return fmt.Errorf("container %s is %s: %w", c.ID, c.Status.State, errdefs.ErrFailedPrecondition)
	case memory:
		return fmt.Errorf("no VM runs that the memory of the snapshot could take the place of; start one first, or restore the disk alone: %w", errdefs.ErrFailedPrecondition)
	}
	if memory && (snap.ContainerID != c.ID || snap.Memory.Machine != c.Status.Size) {
		return fmt.Errorf("the memory of the snapshot is of container %s with %d CPUs and %d MiB, and container %s has %d CPUs and %d MiB; resize it to that first where it can be, or restore the disk alone: %w",
			snap.ContainerID, snap.Memory.Machine.VCPUs, snap.Memory.Machine.Memory/vm.MiB, c.ID, c.Status.Size.VCPUs, c.Status.Size.Memory/vm.MiB, errdefs.ErrFailedPrecondition)
	}
	if !memory {
		return nil
	}
	for _, n := range sb.Status.NICs {
		if n.State != vm.NICAttached {
			return fmt.Errorf("its NIC %s is %s: %w", n.Spec.Name, n.State, errdefs.ErrUnavailable)
		}
	}
	return mayRejoin(sb, *snap.Memory)
}

// restoreAtRest puts back the disks of a VM that is off. Until it has, the new files count as layers that nothing needs.
func (s *Service) restoreAtRest(ctx context.Context, t diskTree, intent vm.RestoreIntent) (err error) {
	spare := spareLayers(intent)
	if t, err = s.intendInTree(t, "restore prepared", intent.Next.Path, func(t vm.DiskTree) (vm.DiskTree, error) {
		t.Layers = append(slices.Clip(t.Layers), spare...)
		return t, nil
	}); err != nil {
		return err
	}
	rev := revert.New(ctx)
	defer rev.Fail(&err) //nolint:contextcheck // it has ctx since New
	rev.Add("restored disk", func(ctx context.Context) error {
		if err := s.removeRestored(ctx, intent); err != nil {
			return err
		}
		_, err := s.updateTree(t, "restore undone", func(t vm.DiskTree) (vm.DiskTree, error) {
			t.Layers = withoutLayers(t.Layers, spare)
			return t, nil
		})
		return err
	})
	if err := s.makeRestored(ctx, t.DiskTree, intent); err != nil {
		return err
	}
	if _, err := s.updateTree(t, "disk restored", func(t vm.DiskTree) (vm.DiskTree, error) {
		t.Layers = withoutLayers(t.Layers, spare)
		return swapped(t, intent), nil
	}); err != nil {
		return err
	}
	rev.Success()
	s.tellRestored(t, intent)
	s.tidyLater(t.sandboxID) //nolint:contextcheck // it outlives the call
	return nil
}

func (s *Service) tellRestored(t diskTree, intent vm.RestoreIntent) {
	if snap, ok := snapshotByID(t.DiskTree, intent.SnapshotID); ok {
		s.tell(vm.VMEvent{SandboxID: t.sandboxID, Kind: vm.SnapshotRestoredEvent, Subject: snap.Name})
	}
}

// swapped puts the disks after a restore in the place of those before, which count as layers that nothing needs. Once
// done it changes nothing.
func swapped(t vm.DiskTree, intent vm.RestoreIntent) vm.DiskTree {
	if !slices.ContainsFunc(t.Disks, func(d vm.Disk) bool { return d.Path == intent.Was.Path }) {
		return t
	}
	t.Layers = withLayer(t.Layers, asLayer(newID(), intent.Was))
	t.Disks = withDisk(t.Disks, intent.Was.Path, intent.Next)
	for _, part := range intent.DataDisks {
		t.Layers = withLayer(t.Layers, dataLayer(newID(), part.Was))
		t.DataDisks = withDataFile(t.DataDisks, part.DiskID, part.Next)
	}
	t.Current, t.Stale = intent.SnapshotID, true
	return t
}

// unswapped takes swapped back.
func unswapped(t vm.DiskTree, intent vm.RestoreIntent) vm.DiskTree {
	if !slices.ContainsFunc(t.Disks, func(d vm.Disk) bool { return d.Path == intent.Next.Path }) {
		return t
	}
	were := []string{intent.Was.Path}
	t.Disks = withDisk(t.Disks, intent.Next.Path, intent.Was)
	for _, part := range intent.DataDisks {
		were = append(were, part.Was.Path)
		t.DataDisks = withDataFile(t.DataDisks, part.DiskID, part.Was)
	}
	t.Layers = slices.DeleteFunc(slices.Clone(t.Layers), func(l vm.Layer) bool { return slices.Contains(were, l.Path) })
	t.Current, t.Stale = intent.WasCurrent, true
	return t
}

// finishRestore gives a running container another QEMU, as its intent says. Under the sandbox's lock. After a crash it is
// done again from the beginning: what an earlier try has booted nobody was told of. The container exits if the VM cannot
// be started, and its disk is as it was before.
func (s *Service) finishRestore(ctx context.Context, c vm.Container) error {
	if c.Status.Stop != nil {
		if err := s.giveUpDisk(ctx, c); err != nil {
			return err
		}
		return s.destroyContainer(ctx, c)
	}
	err := s.restoreVM(ctx, c)
	if err == nil || errdefs.IsUnavailable(err) || errors.Is(ctx.Err(), context.Canceled) {
		return err
	}
	// Also where it takes too long: the next try would, too.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	log.From(ctx).Error("the VM could not be restored", zap.String("container", c.ID), zap.Error(err))
	if undoErr := s.deps.Hypervisor.Destroy(ctx, c.SandboxID); undoErr != nil {
		return errors.Join(err, undoErr)
	}
	if undoErr := s.giveUpDisk(ctx, c); undoErr != nil {
		return errors.Join(err, undoErr)
	}
	return errors.Join(err, s.failStart(ctx, c, fmt.Errorf("the VM could not be restored to a snapshot, and its disk is as it was before: %w", err)))
}

func (s *Service) restoreVM(ctx context.Context, c vm.Container) error {
	intent := *c.Status.Restore
	s.leave(c)
	if err := s.deps.Hypervisor.Destroy(ctx, c.SandboxID); err != nil {
		return err
	}
	s.hints.forget(c.SandboxID)
	// A file of an earlier try may have been written to, and memory wants the disk of its moment.
	if err := s.removeRestored(ctx, intent); err != nil {
		return err
	}
	sb, err := s.deps.Store.Sandboxes.Get(c.SandboxID)
	if err != nil {
		return err
	}
	t := s.presentTree(sb)
	if err := s.makeRestored(ctx, t.DiskTree, intent); err != nil {
		return err
	}
	if t, err = s.updateTree(t, "disk swapped", func(t vm.DiskTree) (vm.DiskTree, error) {
		return swapped(t, intent), nil
	}); err != nil {
		return err
	}
	if sb, err = s.deps.Store.Sandboxes.Get(c.SandboxID); err != nil {
		return err
	}
	surplus, err := s.launchRestored(ctx, sb, c)
	if err != nil {
		return err
	}
	if c, err = s.updateContainer(c.ID, "vm restored", func(st vm.ContainerStatus) (vm.ContainerStatus, error) {
		st.Restore, st.Paused, st.Rejoin = nil, intent.Paused, surplus
		return st, nil
	}); err != nil {
		return err
	}
	s.tellRestored(t, intent)
	if intent.Paused {
		s.tell(vm.VMEvent{SandboxID: sb.ID, Kind: vm.VMPausedEvent})
	} else if surplus {
		s.rejoinLater(sb.ID) //nolint:contextcheck // it outlives the restore
	}
	s.tidyLater(sb.ID) //nolint:contextcheck // it outlives the restore
	s.hints.forget(c.SandboxID)
	s.attend(sb, c) //nolint:contextcheck // it lives as long as the container or we do
	if intent.Memory && !intent.Paused {
		s.mendClock(c) //nolint:contextcheck // as above
	}
	s.sample.soon()
	return nil
}

// launchRestored starts QEMU on the restored disk, with the memory if that is restored too. surplus: with NICs that are not
// on record any more.
func (s *Service) launchRestored(ctx context.Context, sb vm.Sandbox, c vm.Container) (surplus bool, err error) {
	intent := c.Status.Restore
	if sb, err = s.endDiskChanges(ctx, sb); err != nil {
		return false, err
	}
	if err := s.redefine(ctx, sb); err != nil {
		return false, err
	}
	if err := s.follow(ctx, c); err != nil { // after a restart of vmlet nobody does yet
		return false, err
	}
	if err := s.prepareHost(ctx, sb, c, true); err != nil {
		return false, err
	}
	if intent.Memory {
		surplus, err = s.wakeUp(ctx, sb, c, s.cfg.Paths.SnapshotMemory(sb.ID, intent.SnapshotID))
	} else if err = s.deps.Hypervisor.Start(ctx, sb.ID); err != nil {
		err = fmt.Errorf("start the domain: %w", err)
	} else {
		err = s.connect(ctx, sb, c)
	}
	if err != nil || intent.Paused {
		return surplus, err
	}
	if err := s.deps.Hypervisor.Resume(ctx, sb.ID); err != nil {
		return false, fmt.Errorf("let the guest run: %w", err)
	}
	return surplus, nil
}

// giveUpDisk puts the disks before a restore back.
func (s *Service) giveUpDisk(ctx context.Context, c vm.Container) error {
	intent := *c.Status.Restore
	if err := s.deps.Hypervisor.Destroy(ctx, c.SandboxID); err != nil {
		return err
	}
	sb, err := s.deps.Store.Sandboxes.Get(c.SandboxID)
	if err != nil {
		return err
	}
	if _, err := s.updateTree(s.presentTree(sb), "restore given up", func(t vm.DiskTree) (vm.DiskTree, error) {
		return unswapped(t, intent), nil
	}); err != nil {
		return err
	}
	if err := s.removeRestored(ctx, intent); err != nil {
		return err
	}
	_, err = s.recordRestore(c, "restore forgotten", nil)
	return err
}

func (s *Service) recordRestore(c vm.Container, step string, intent *vm.RestoreIntent) (vm.Container, error) {
	now := s.now()
	return s.updateContainer(c.ID, step, func(st vm.ContainerStatus) (vm.ContainerStatus, error) {
		if st.Restore = intent; intent != nil {
			st.BootedAt = now
		}
		return st, nil
	})
}
