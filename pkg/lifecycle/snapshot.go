// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// Snapshots lists the snapshots of a VM, oldest first. ref is as in sandboxOf.
func (s *Service) Snapshots(ctx context.Context, ref string) ([]vm.SnapshotInfo, error) {
	id, err := s.sandboxOf(ref)
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	sb, err := s.deps.Store.Sandboxes.Get(id)
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	if err := mayHaveSnapshots(sb); err != nil {
		return nil, fmt.Errorf("list snapshots of sandbox %s: %w", id, err)
	}
	t := s.presentTree(sb)
	var out []vm.SnapshotInfo
	for _, snap := range t.Snapshots {
		if isForCheckpoint(snap) {
			continue
		}
		info, err := s.snapshotInfo(ctx, t, snap)
		if err != nil {
			return nil, fmt.Errorf("list snapshots of sandbox %s: %w", id, err)
		}
		out = append(out, info)
	}
	return out, nil
}

// Snapshot returns one snapshot of a VM by its name; NotFound if it has none of that name.
func (s *Service) Snapshot(ctx context.Context, ref, name string) (vm.SnapshotInfo, error) {
	id, err := s.sandboxOf(ref)
	if err != nil {
		return vm.SnapshotInfo{}, fmt.Errorf("snapshot %q: %w", name, err)
	}
	sb, err := s.deps.Store.Sandboxes.Get(id)
	if err != nil {
		return vm.SnapshotInfo{}, fmt.Errorf("snapshot %q: %w", name, err)
	}
	if err := mayHaveSnapshots(sb); err != nil {
		return vm.SnapshotInfo{}, fmt.Errorf("snapshot %q of sandbox %s: %w", name, id, err)
	}
	t := s.presentTree(sb)
	snap, err := snapshotNamed(t, name)
	if err != nil {
		return vm.SnapshotInfo{}, err
	}
	return s.snapshotInfo(ctx, t, snap)
}

func snapshotNamed(t diskTree, name string) (vm.Snapshot, error) {
	i := slices.IndexFunc(t.Snapshots, func(snap vm.Snapshot) bool { return snap.Name == name })
	if i < 0 {
		return vm.Snapshot{}, fmt.Errorf("sandbox %s has no snapshot %q: %w", t.sandboxID, name, errdefs.ErrNotFound)
	}
	return t.Snapshots[i], nil
}

func snapshotByID(t vm.DiskTree, id string) (vm.Snapshot, bool) {
	i := slices.IndexFunc(t.Snapshots, func(snap vm.Snapshot) bool { return snap.ID == id })
	if i < 0 {
		return vm.Snapshot{}, false
	}
	return t.Snapshots[i], true
}

// withSnapshot returns the snapshots with one changed, or added.
func withSnapshot(all []vm.Snapshot, snap vm.Snapshot) []vm.Snapshot {
	out := slices.Clone(all)
	if i := slices.IndexFunc(out, func(old vm.Snapshot) bool { return old.ID == snap.ID }); i >= 0 {
		out[i] = snap
		return out
	}
	return append(out, snap)
}

func (s *Service) snapshotInfo(ctx context.Context, t diskTree, snap vm.Snapshot) (vm.SnapshotInfo, error) {
	info := vm.SnapshotInfo{Snapshot: snap, SandboxID: t.sandboxID, Current: t.Current == snap.ID}
	if parent, ok := snapshotByID(t.DiskTree, snap.Parent); ok {
		info.ParentName = parent.Name
	}
	layers := []string{snap.Disk.Layer}
	for _, part := range snap.DataDisks {
		layers = append(layers, part.Layer)
	}
	for _, id := range layers {
		l, ok := layerByID(t.DiskTree, id)
		if !ok {
			continue
		}
		used, err := s.usedBy(ctx, l)
		if err != nil {
			return info, err
		}
		info.Used += used
	}
	return info, nil
}

// usedBy is the bytes that a layer takes on the host.
func (s *Service) usedBy(ctx context.Context, l vm.Layer) (uint64, error) {
	used, err := s.deps.Disks.FileUsage(ctx, l.Path)
	if err != nil || l.NVRAM == "" {
		return used.UsedBytes, err
	}
	nvram, err := s.deps.Disks.FileUsage(ctx, l.NVRAM)
	return used.UsedBytes + nvram.UsedBytes, err
}

// bootDisk finds the container that has the VM of a sandbox, or had it last, and its root disk.
func (s *Service) bootDisk(sb vm.Sandbox) (vm.Container, diskInTree, error) {
	all := s.containersOf(sb.ID)
	if live, ok := s.liveContainer(sb.ID); ok {
		all = []vm.Container{live}
	}
	for _, c := range slices.Backward(all) {
		for _, t := range s.treesOf(sb) {
			for _, d := range t.Disks {
				if d.ContainerID == c.ID || d.ContainerID == "" && d.Container == c.Spec.Name && d.ImageID == c.Spec.ImageID {
					return c, diskInTree{d, t}, nil
				}
			}
		}
	}
	if err := mayHaveSnapshots(sb); err != nil {
		return vm.Container{}, diskInTree{tree: ownTree(sb)}, err
	}
	return vm.Container{}, diskInTree{tree: ownTree(sb)}, fmt.Errorf("it has no root disk: no container was created in it: %w", errdefs.ErrFailedPrecondition)
}

// trueDefinition has the next QEMU of a VM find its disks as they are: before each start. It returns the sandbox as it is then.
// A start that was cut short has a QEMU already, on a definition that was true.
func (s *Service) trueDefinition(ctx context.Context, sandboxID string) (vm.Sandbox, error) {
	if err := s.merges.interrupt(ctx, sandboxID); err != nil {
		return vm.Sandbox{}, err
	}
	if err := s.undoSnapshotLocked(ctx, sandboxID); err != nil {
		return vm.Sandbox{}, err
	}
	sb, err := s.deps.Store.Sandboxes.Get(sandboxID)
	if err != nil || !s.presentTree(sb).Stale && !changing(sb) {
		return sb, err
	}
	d, err := s.deps.Hypervisor.Domain(ctx, sandboxID)
	if err != nil || d.State.Active() {
		return sb, err
	}
	if sb, err = s.endDiskChanges(ctx, sb); err != nil {
		return sb, err
	}
	if err := s.redefine(ctx, sb); err != nil {
		return sb, err
	}
	return s.deps.Store.Sandboxes.Get(sandboxID)
}

// betweenSnapshots is Unavailable while a snapshot of a sandbox is taken or restored: what is done to its machine meanwhile
// would be half in it.
func (s *Service) betweenSnapshots(sb vm.Sandbox) error {
	if err := s.notRestoring(sb.ID); err != nil {
		return err
	}
	for _, t := range s.treesOf(sb) {
		for _, snap := range t.Snapshots {
			if snap.State == vm.SnapshotCreating {
				return fmt.Errorf("snapshot %q of it is being taken: %w", snap.Name, errdefs.ErrUnavailable)
			}
		}
	}
	return nil
}

// redefine makes the definition of a VM that does not run true, where its disks have changed since. QEMU can open its files
// after it. Nothing else of the machine changes, whatever the node's defaults are now.
func (s *Service) redefine(ctx context.Context, sb vm.Sandbox) error {
	_, disk, err := s.bootDisk(sb)
	t := disk.tree
	if !t.Stale {
		return nil
	}
	if err != nil {
		return err
	}
	if err := s.handOverLayers(ctx, t.DiskTree, disk.Layer); err != nil {
		return err
	}
	files := []vm.DiskFiles{{Path: disk.Path, Backing: backingOf(t.DiskTree, disk.Disk), NVRAM: disk.NVRAM}}
	for _, d := range sb.Status.DataDisks {
		if !d.Own() || d.State != vm.DataDiskAttached {
			continue
		}
		if err := s.handOverLayers(ctx, sb.Status.DiskTree, d.Layer); err != nil {
			return err
		}
		files = append(files, vm.DiskFiles{Target: d.Target, Path: d.Path, Backing: layersFrom(sb.Status.DiskTree, d.Layer)})
	}
	if err := s.deps.Hypervisor.DefineDisks(ctx, sb.ID, files); err != nil {
		return fmt.Errorf("define the domain on its present disks: %w", err)
	}
	_, err = s.updateTree(t, "domain defined", func(t vm.DiskTree) (vm.DiskTree, error) {
		t.Stale = false
		return t, nil
	})
	return err
}

// handOverLayers has QEMU's user, as whom qemu-img runs too, read a layer and those below it. libvirt gives a file back to root
// that it has made for a snapshot, when the VM that wrote to it ends.
func (s *Service) handOverLayers(ctx context.Context, t vm.DiskTree, id string) error {
	for l, ok := layerByID(t, id); ok; l, ok = layerByID(t, l.Parent) {
		if err := s.deps.Disks.HandOver(ctx, l.Path); err != nil {
			return err
		}
	}
	return nil
}
