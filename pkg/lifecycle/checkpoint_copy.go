// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// checkpointPart is a file of a checkpoint, and the one of the sandbox that it is a copy of.
type checkpointPart struct {
	name, from string
	// layer is what from is made of first, with the layers below it, whose files are all. nil where from is there, and stays.
	layer *vm.Layer
	all   []string
}

// copiedFiles lists the files of a checkpoint: its disks, what UEFI keeps, and the memory.
func (s *Service) copiedFiles(sb vm.Sandbox, snap vm.Snapshot, out vm.Checkpoint) (files []checkpointPart, err error) {
	scratch := s.cfg.Paths.CheckpointDisk(sb.ID, checkpointID(snap))
	add := func(name, layerID string) (vm.Layer, error) {
		layer, ok := layerByID(sb.Status.DiskTree, layerID)
		if !ok {
			return layer, fmt.Errorf("its disk for %s is not on record: %w", name, errdefs.ErrDataLoss)
		}
		part := checkpointPart{name: name, from: scratch, layer: &layer}
		for _, file := range layersFrom(sb.Status.DiskTree, layerID) {
			part.all = append(part.all, file.Path)
		}
		files = append(files, part)
		return layer, nil
	}
	root, err := add(vm.CheckpointDisk, snap.Disk.Layer)
	if err != nil {
		return nil, err
	}
	for _, d := range out.OwnDisks() {
		i := slices.IndexFunc(snap.DataDisks, func(part vm.SnapshotPart) bool { return part.DiskID == d.ID })
		if i < 0 {
			return nil, fmt.Errorf("its disk %q was away when its memory was taken; try again: %w", d.Name, errdefs.ErrUnavailable)
		}
		if _, err := add(vm.CheckpointData(d.Target), snap.DataDisks[i].Layer); err != nil {
			return nil, err
		}
	}
	if root.NVRAM != "" {
		files = append(files, checkpointPart{name: vm.CheckpointNVRAM, from: root.NVRAM})
	}
	return append(files, checkpointPart{name: vm.CheckpointMemory, from: s.cfg.Paths.SnapshotMemory(sb.ID, snap.ID)}), nil
}

// copyOut writes one file into the folder. A disk is made one file of first, since it may have layers, and holes where its guest has
// trimmed it; that takes room beside the sandbox's own files for as long as one disk is copied.
func (s *Service) copyOut(ctx context.Context, where vm.CheckpointFolder, sandboxID string, f checkpointPart) (vm.CheckpointFile, error) {
	if f.layer == nil {
		return s.copyTo(ctx, where, sandboxID, f)
	}
	if err := s.exportDisk(ctx, sandboxID, f); err != nil {
		return vm.CheckpointFile{}, fmt.Errorf("%s: %w", f.name, err)
	}
	file, err := s.copyTo(ctx, where, sandboxID, f)
	if err != nil {
		return file, err
	}
	return file, s.deps.Disks.RemoveFile(ctx, f.from)
}

// copyTo copies one file into the folder, and tells how far that is.
func (s *Service) copyTo(ctx context.Context, where vm.CheckpointFolder, sandboxID string, f checkpointPart) (vm.CheckpointFile, error) {
	var copied atomic.Pointer[vm.Progress]
	copied.Store(&vm.Progress{})
	defer s.track(ctx, sandboxID, func(context.Context) (vm.Progress, error) { return *copied.Load(), nil })()
	return s.deps.Disks.WriteCheckpoint(ctx, where, f.name, f.from, func(p vm.Progress) { copied.Store(&p) })
}

// exportDisk makes one file of all that a layer has with those below it, beyond its image.
func (s *Service) exportDisk(ctx context.Context, sandboxID string, f checkpointPart) error {
	layer, path := *f.layer, f.from
	disk := vm.Disk{Path: path, Backing: layer.Path, BackingFormat: vm.FormatQCOW2, Size: layer.Size}
	if err := s.deps.Disks.CreateRoot(ctx, disk); err != nil {
		return err
	}
	defer s.track(ctx, sandboxID, s.growthOf(ctx, path, f.all...))()
	if err := s.deps.Disks.PullFile(ctx, path, vm.BackingFile{Path: layer.Backing, Format: layer.BackingFormat}); err != nil {
		return err
	}
	// Where the image is on this node is nobody's business elsewhere, and a disk that names a file is not taken back.
	return s.deps.Disks.SetBase(ctx, path, vm.BackingFile{})
}
