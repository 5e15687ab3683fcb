// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"fmt"

	"github.com/vmlet/vmlet/pkg/vm"
)

// freeDisks leaves the persistent disks of a sandbox that is being stopped to whoever takes them next: nobody is at their
// files, no snapshot is half taken, no restore half done, and no memory is left, which only this sandbox's container could go
// on in. Under the sandbox's lock, when its VM has ended, and before it counts as stopped. Idempotent.
//
// Layers that are not merged yet are left to who takes the disk.
func (s *Service) freeDisks(ctx context.Context, sb vm.Sandbox) error {
	if len(s.heldBy(sb)) == 0 {
		return nil
	}
	if err := s.merges.interrupt(ctx, sb.ID); err != nil {
		return err
	}
	if c, ok := s.liveContainer(sb.ID); ok && c.Status.Restore != nil {
		if err := s.finishRestore(ctx, c); err != nil { // it is being stopped: the restore is given up
			return fmt.Errorf("give up the restore of a snapshot: %w", err)
		}
	}
	if err := s.undoSnapshotLocked(ctx, sb.ID); err != nil {
		return err
	}
	for _, t := range s.treesOf(sb) {
		if err := s.dropMemory(ctx, t); err != nil {
			return fmt.Errorf("give back the memory of snapshots: %w", err)
		}
	}
	return nil
}

// dropMemory makes snapshots with memory what they are without: of a disk whose machine was stopped in the middle.
func (s *Service) dropMemory(ctx context.Context, t diskTree) error {
	some := false
	for _, snap := range t.Snapshots {
		if snap.Memory == nil || t.persistent == "" {
			continue
		}
		if err := s.deps.Disks.RemoveFile(ctx, s.cfg.Paths.SnapshotMemory(t.sandboxID, snap.ID)); err != nil {
			return err
		}
		some = true
	}
	if !some {
		return nil
	}
	_, err := s.updateTree(t, "snapshot memory given up", func(t vm.DiskTree) (vm.DiskTree, error) {
		for _, snap := range t.Snapshots {
			if snap.Memory != nil {
				snap.Memory, snap.MemoryGone, snap.Consistency = nil, true, vm.ConsistencyCrash
				t.Snapshots = withSnapshot(t.Snapshots, snap)
			}
		}
		return t, nil
	})
	return err
}
