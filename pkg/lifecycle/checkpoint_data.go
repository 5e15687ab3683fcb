// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"fmt"

	"github.com/vmlet/vmlet/pkg/vm"
)

// The data disks whose files are ours are parts of the snapshot that a checkpoint is made of. The pod that is restored has disks of
// its own with their content, at the same places.

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
