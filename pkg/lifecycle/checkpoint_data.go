// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// The data disks whose files are ours are parts of the snapshot that a checkpoint is made of. Each is copied out whole, and the
// pod that is restored has disks of its own with that content, at the same places.

// checkpointPart is a file of a checkpoint, and the one of the sandbox that it is a copy of.
type checkpointPart struct {
	name, from string
	// layer is what from is made of first, with all that is below it. nil where from is there, and stays.
	layer *vm.Layer
}

// copiedDisks lists the disks of a checkpoint.
func (s *Service) copiedDisks(sb vm.Sandbox, snap vm.Snapshot, out vm.Checkpoint) (files []checkpointPart, err error) {
	scratch := s.cfg.Paths.CheckpointDisk(sb.ID, checkpointID(snap))
	add := func(name, layerID string) error {
		layer, ok := layerByID(sb.Status.DiskTree, layerID)
		if !ok {
			return fmt.Errorf("its disk for %s is not on record: %w", name, errdefs.ErrDataLoss)
		}
		files = append(files, checkpointPart{name, scratch, &layer})
		return nil
	}
	if err := add(vm.CheckpointDisk, snap.Disk.Layer); err != nil {
		return nil, err
	}
	for _, d := range out.OwnDisks() {
		i := slices.IndexFunc(snap.DataDisks, func(part vm.SnapshotPart) bool { return part.DiskID == d.ID })
		if i < 0 {
			return nil, fmt.Errorf("its disk %q was away when its memory was taken; try again: %w", d.Name, errdefs.ErrUnavailable)
		}
		if err := add(vm.CheckpointData(d.Target), snap.DataDisks[i].Layer); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// copyOut writes one file into the folder. A disk is made one file of first, since it may have layers, and holes where its guest has
// trimmed it; that takes room beside the sandbox's own files for as long as one disk is copied.
func (s *Service) copyOut(ctx context.Context, where vm.CheckpointFolder, f checkpointPart) (vm.CheckpointFile, error) {
	if f.layer == nil {
		return s.deps.Disks.WriteCheckpoint(ctx, where, f.name, f.from)
	}
	if err := s.exportDisk(ctx, *f.layer, f.from); err != nil {
		return vm.CheckpointFile{}, fmt.Errorf("%s: %w", f.name, err)
	}
	file, err := s.deps.Disks.WriteCheckpoint(ctx, where, f.name, f.from)
	if err != nil {
		return file, err
	}
	return file, s.deps.Disks.RemoveFile(ctx, f.from)
}

// anywhere is a data disk without what means something in its own sandbox alone: where its content is there.
func anywhere(d vm.DataDisk) vm.DataDisk {
	if d.Own() {
		d.Path, d.Layer = "", ""
	}
	return d
}

// intendRestored records a data disk of a checkpoint, before its file is made.
func (s *Service) intendRestored(sandboxID string, d vm.DataDisk) error {
	d.Path, d.Layer = s.cfg.Paths.DataDisk(sandboxID, d.ID), ""
	_, err := s.recordDataDisk(sandboxID, "data disk restored", d)
	return err
}

// fetchData brings the content of the data disks that are on record into the sandbox's folder.
func (s *Service) fetchData(ctx context.Context, sb vm.Sandbox, from restoring) error {
	for _, d := range sb.Status.DataDisks {
		if !d.Own() {
			continue
		}
		file, err := from.File(vm.CheckpointData(d.Target))
		if err != nil {
			return err
		}
		if err := s.deps.Disks.FetchDisk(ctx, from.dir, file, d.Path); err != nil {
			return fmt.Errorf("disk %q: %w", d.Name, err)
		}
	}
	return nil
}
