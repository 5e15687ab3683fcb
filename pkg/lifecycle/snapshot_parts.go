// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// The data disks whose files are ours are parts of a snapshot beside the root disk: taken in the same moment, on record by the
// same write, and put back together. They are in the sandbox's own tree. Where the root disk is in another one, which
// outlives the sandbox, they are left out, as callers' files always are; the snapshot says so.

// partsOf are the data disks that a snapshot of a tree's disk has with it, and the names of those that the guest can write to
// and that are not in it. What is attached read-only is neither.
func (s *Service) partsOf(sb vm.Sandbox, t diskTree) (parts []vm.SnapshotPart, leftOut []string, err error) {
	for _, d := range sb.Status.DataDisks {
		switch {
		case d.State == vm.DataDiskDetached || d.Spec.ReadOnly:
		case !d.Own() || t.persistent != "":
			leftOut = append(leftOut, d.Name)
		case d.State != vm.DataDiskAttached:
			return nil, nil, fmt.Errorf("its disk %q is %s: %w", d.Name, d.State, errdefs.ErrUnavailable)
		default:
			next := newID()
			parts = append(parts, vm.SnapshotPart{
				DiskID: d.ID, Name: d.Name, Serial: d.Serial, Target: d.Target,
				Layer: next, Next: s.cfg.Paths.DataDisk(sb.ID, next), Size: d.Size,
			})
		}
	}
	return parts, leftOut, nil
}

// mayLeaveOut refuses memory without the disks that its guest writes to: it would go on with what it knows of another time's
// content.
func mayLeaveOut(t diskTree, names []string) error {
	if len(names) == 0 {
		return nil
	}
	why := "a caller's file or device never is"
	if t.persistent != "" {
		why = "beside a persistent root disk no other is"
	}
	return fmt.Errorf("it can write to disks that are not part of a snapshot (%s: %s), and memory is taken without such disks only; detach them, or take a snapshot without memory: %w",
		strings.Join(names, ", "), why, errdefs.ErrFailedPrecondition)
}

// dataDiskByID finds a data disk of a tree.
func dataDiskByID(t vm.DiskTree, id string) (vm.DataDisk, bool) {
	i := slices.IndexFunc(t.DataDisks, func(d vm.DataDisk) bool { return d.ID == id })
	if i < 0 {
		return vm.DataDisk{}, false
	}
	return t.DataDisks[i], true
}

// withDataFile returns the data disks with one on another file.
func withDataFile(disks []vm.DataDisk, id string, f vm.DataFile) []vm.DataDisk {
	out := slices.Clone(disks)
	for i := range out {
		if out[i].ID == id {
			out[i] = out[i].WithFile(f)
		}
	}
	return out
}

// dataLayer makes a layer of a data disk's file that is written to no more.
func dataLayer(id string, f vm.DataFile) vm.Layer {
	return vm.Layer{ID: id, Path: f.Path, Parent: f.Layer, Size: f.Size}
}

// switchesOf are the files that the disks of a snapshot are to be written to.
func switchesOf(t vm.DiskTree, disk vm.Disk, snap vm.Snapshot) ([]vm.Switch, error) {
	switches := []vm.Switch{{Disk: disk.Path, Next: snap.Disk.Next}}
	for _, part := range snap.DataDisks {
		d, ok := dataDiskByID(t, part.DiskID)
		if !ok {
			return nil, fmt.Errorf("its disk %q is gone: %w", part.Name, errdefs.ErrAborted)
		}
		switches = append(switches, vm.Switch{Disk: d.Path, Next: part.Next})
	}
	return switches, nil
}

// writtenTo is Unavailable where QEMU does not write to a disk as it is on record: its guest has just let go of it.
func writtenTo(chains [][]string, switches []vm.Switch) error {
	for _, sw := range switches {
		if !slices.ContainsFunc(chains, func(files []string) bool { return files[0] == sw.Disk }) {
			return fmt.Errorf("libvirt has it otherwise than the record, by which the guest writes to %s; try again: %w", sw.Disk, errdefs.ErrUnavailable)
		}
	}
	return nil
}

// makeNexts makes the files that the guest writes to from the snapshot on.
func (s *Service) makeNexts(ctx context.Context, t vm.DiskTree, disk vm.Disk, snap vm.Snapshot) error {
	if err := s.makeNext(ctx, disk, snap); err != nil {
		return err
	}
	for _, part := range snap.DataDisks {
		d, _ := dataDiskByID(t, part.DiskID)
		if err := s.makeOver(ctx, part.Next, d.Path, part.Size); err != nil {
			return fmt.Errorf("disk %q: %w", part.Name, err)
		}
	}
	return nil
}

// makeOver makes an empty file on another one of a data disk.
func (s *Service) makeOver(ctx context.Context, path, below string, size int64) error {
	return s.deps.Disks.CreateRoot(ctx, vm.Disk{Path: path, Backing: below, BackingFormat: vm.FormatQCOW2, Size: size})
}

// nextsOf are the files that a snapshot was to make, of disks that are still on record.
func nextsOf(t vm.DiskTree, snap vm.Snapshot) (paths []string) {
	if slices.ContainsFunc(t.Disks, func(d vm.Disk) bool { return isOf(d, snap) }) {
		paths = append(paths, snap.Disk.Next)
	}
	for _, part := range snap.DataDisks {
		if _, ok := dataDiskByID(t, part.DiskID); ok {
			paths = append(paths, part.Next)
		}
	}
	return paths
}

// removeNexts removes all files that a snapshot was to make.
func (s *Service) removeNexts(ctx context.Context, snap vm.Snapshot) error {
	if err := s.removeWithNVRAM(ctx, snap.Disk.Next, snap.Disk.NVRAM); err != nil {
		return err
	}
	for _, part := range snap.DataDisks {
		if err := s.deps.Disks.RemoveFile(ctx, part.Next); err != nil {
			return err
		}
	}
	return nil
}

// withoutNexts is a snapshot that makes no files any more.
func withoutNexts(snap vm.Snapshot) vm.Snapshot {
	snap.Disk.Next, snap.Disk.NVRAM = "", ""
	snap.DataDisks = slices.Clone(snap.DataDisks)
	for i := range snap.DataDisks {
		snap.DataDisks[i].Next = ""
	}
	return snap
}

// partsTaken has the data disks of a snapshot be layers, and the guest write to other files on them.
func partsTaken(t vm.DiskTree, snap vm.Snapshot) vm.DiskTree {
	for _, part := range snap.DataDisks {
		if d, ok := dataDiskByID(t, part.DiskID); ok {
			t.Layers = withLayer(t.Layers, dataLayer(part.Layer, d.File()))
			t.DataDisks = withDataFile(t.DataDisks, d.ID, vm.DataFile{Path: part.Next, Layer: part.Layer, Size: d.Size})
		}
	}
	return t
}

// restoredParts judges the data disks of a snapshot that is to be restored, and says what becomes of each.
func (s *Service) restoredParts(sb vm.Sandbox, snap vm.Snapshot, memory bool) (parts []vm.RestoredPart, err error) {
	for _, part := range snap.DataDisks {
		d, ok := dataDiskByID(sb.Status.DiskTree, part.DiskID)
		layer, layered := layerByID(sb.Status.DiskTree, part.Layer)
		switch {
		case !ok || !layered:
			return nil, fmt.Errorf("its disk %q is not on record: %w", part.Name, errdefs.ErrDataLoss)
		case d.State == vm.DataDiskDetached:
			return nil, fmt.Errorf("disk %q of the snapshot was detached since; attach it again first (its content is kept): %w", d.Name, errdefs.ErrFailedPrecondition)
		case d.State != vm.DataDiskAttached:
			return nil, fmt.Errorf("its disk %q is %s: %w", d.Name, d.State, errdefs.ErrUnavailable)
		case memory && (d.Target != part.Target || d.Serial != part.Serial):
			return nil, fmt.Errorf("the memory of the snapshot is of a machine with disk %q as %s with serial number %s, and it is %s with %s now; restore the disks alone: %w",
				d.Name, part.Target, part.Serial, d.Target, d.Serial, errdefs.ErrFailedPrecondition)
		}
		next := vm.DataFile{Path: s.cfg.Paths.DataDisk(sb.ID, newID()), Layer: layer.ID, Size: layer.Size}
		parts = append(parts, vm.RestoredPart{DiskID: d.ID, Was: d.File(), Next: next})
	}
	return parts, nil
}

// spareLayers are the files that a restore is to make, as layers that nothing needs.
func spareLayers(intent vm.RestoreIntent) []vm.Layer {
	layers := []vm.Layer{asLayer(newID(), intent.Next)}
	for _, part := range intent.DataDisks {
		layers = append(layers, dataLayer(newID(), part.Next))
	}
	return layers
}

// makeRestored makes the files that a restore has the guest write to.
func (s *Service) makeRestored(ctx context.Context, t vm.DiskTree, intent vm.RestoreIntent) error {
	if err := s.deps.Disks.CreateRoot(ctx, onLayer(t, intent.Next)); err != nil {
		return err
	}
	if err := s.bringNVRAM(ctx, t, intent.Next); err != nil {
		return err
	}
	for _, part := range intent.DataDisks {
		layer, ok := layerByID(t, part.Next.Layer)
		if !ok {
			return fmt.Errorf("layer %s of data disk %s is not on record: %w", part.Next.Layer, part.DiskID, errdefs.ErrDataLoss)
		}
		if err := s.makeOver(ctx, part.Next.Path, layer.Path, part.Next.Size); err != nil {
			return err
		}
	}
	return nil
}

// removeRestored removes them.
func (s *Service) removeRestored(ctx context.Context, intent vm.RestoreIntent) error {
	if err := s.removeWithNVRAM(ctx, intent.Next.Path, intent.Next.NVRAM); err != nil {
		return err
	}
	for _, part := range intent.DataDisks {
		if err := s.deps.Disks.RemoveFile(ctx, part.Next.Path); err != nil {
			return err
		}
	}
	return nil
}

// heldIn names the snapshots that a data disk is in.
func heldIn(t vm.DiskTree, d vm.DataDisk) (names []string) {
	for _, snap := range t.Snapshots {
		if snap.State != vm.SnapshotDeleting && slices.ContainsFunc(snap.DataDisks, func(part vm.SnapshotPart) bool { return part.DiskID == d.ID }) {
			names = append(names, snap.Name)
		}
	}
	return names
}
