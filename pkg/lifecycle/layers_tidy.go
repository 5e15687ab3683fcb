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
	"github.com/vmlet/vmlet/pkg/vm"
)

// tidyLayers removes and merges layers until none is there for nothing, and then forgets the snapshots that were deleted.
// Under the lock of the sandbox's layers. Each step can be cut short at any moment and be done again: a layer is only
// ever written to once nothing but the file that is being merged into it can be seen through it.
func (s *Service) tidyLayers(ctx context.Context, sandboxID string) error {
	for {
		sb, err := s.deps.Store.Sandboxes.Get(sandboxID)
		if errors.Is(err, errdefs.ErrNotFound) || err == nil && sb.Status.State == vm.SandboxRemoving {
			return nil // its folder goes
		}
		if err != nil {
			return err
		}
		t, work, some := s.nextWork(sb)
		if !some {
			return s.forgetDeleted(ctx, sb)
		}
		if err := s.doLayerWork(ctx, t, work); err != nil {
			return err
		}
	}
}

// nextWork finds what is to be done next to the trees of a sandbox.
func (s *Service) nextWork(sb vm.Sandbox) (t diskTree, work layerWork, some bool) {
	for _, t := range s.treesOf(sb) {
		if work, some := nextLayerWork(t.DiskTree); some {
			return t, work, true
		}
	}
	return t, work, false
}

// tidyLater does in the background what tidyLayers could not do, or nobody has done yet.
func (s *Service) tidyLater(sandboxID string) {
	s.work.Go(func() {
		again(log.With(s.life, zap.String("sandbox", sandboxID)), "layers of disks that nothing needs", func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, workTimeout) // what was copied by then stays copied
			defer cancel()
			unlock, err := s.layerLocks.Lock(ctx, sandboxID)
			if err != nil {
				return err
			}
			defer unlock()
			return s.tidyLayers(ctx, sandboxID)
		})
	})
}

// untidy tells whether there is something to tidy.
func untidy(t vm.DiskTree) bool {
	_, some := nextLayerWork(t)
	return some || slices.ContainsFunc(t.Snapshots, func(snap vm.Snapshot) bool { return snap.State == vm.SnapshotDeleting })
}

// untidySandbox is untidy for all trees of a sandbox.
func (s *Service) untidySandbox(sb vm.Sandbox) bool {
	return slices.ContainsFunc(s.treesOf(sb), func(t diskTree) bool { return untidy(t.DiskTree) })
}

// doLayerWork does one step. What moves bytes is done without the sandbox's lock, since it may take long: by QEMU where one
// has the files open, which may be stopped meanwhile, and else by qemu-img, which whoever needs the files interrupts.
func (s *Service) doLayerWork(ctx context.Context, t diskTree, work layerWork) error {
	var long longWork
	if err := s.withLayers(ctx, t, work, func(t diskTree, chain []string) (err error) {
		long, err = s.beginLayerWork(ctx, t, work, chain)
		return err
	}); err != nil || long.do == nil {
		return err
	}
	if err := long.do(ctx); errors.Is(err, errInterrupted) {
		return nil // who needed the files has the lock: what is next is found after it
	} else if err != nil {
		return err
	}
	return s.withLayers(ctx, t, work, long.end)
}

// longWork is a step that moves bytes, do, and what records it under the sandbox's lock.
type longWork struct {
	do  func(context.Context) error
	end func(t diskTree, chain []string) error
}

// live is long work of a QEMU.
func (s *Service) live(sandboxID string, do func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, stop := s.untilClosed(ctx)
		defer stop()
		defer s.track(ctx, sandboxID, func(ctx context.Context) (vm.Progress, error) { return s.deps.Hypervisor.Progress(ctx, sandboxID) })()
		return do(ctx)
	}
}

// withLayers does something under the sandbox's lock, if the work is still the next to do: without the lock the tree may
// have changed, and what is next with it.
func (s *Service) withLayers(ctx context.Context, t diskTree, work layerWork, do func(t diskTree, chain []string) error) error {
	sandboxID := t.sandboxID
	unlock, err := s.locks.Lock(ctx, sandboxID)
	if err != nil {
		return err
	}
	defer unlock()
	sb, err := s.deps.Store.Sandboxes.Get(sandboxID)
	if errors.Is(err, errdefs.ErrNotFound) || err == nil && sb.Status.State == vm.SandboxRemoving {
		return nil
	}
	if err != nil {
		return err
	}
	t, there := s.treeNow(sb, t)
	if now, some := nextLayerWork(t.DiskTree); !there || !some || !now.sameAs(work) {
		return nil
	}
	if err := s.notRestoring(sandboxID); err != nil {
		return err
	}
	chains, err := s.chainsOf(ctx, sandboxID)
	if err != nil {
		return err
	}
	return do(t, slices.Concat(chains...))
}

// notRestoring is Unavailable while a restore that was cut short is on record: it needs the disk before it and the disk after.
func (s *Service) notRestoring(sandboxID string) error {
	if c, ok := s.liveContainer(sandboxID); ok && c.Status.Restore != nil {
		return fmt.Errorf("its VM is being restored: %w", errdefs.ErrUnavailable)
	}
	return nil
}

// beginLayerWork does the work, or returns what does it without the lock. chain are the files that QEMU has open.
func (s *Service) beginLayerWork(ctx context.Context, t diskTree, work layerWork, chain []string) (longWork, error) {
	id, below := t.sandboxID, belowLayer(t.DiskTree, work.layer)
	pulled := func(t diskTree, _ []string) error { return s.recordPulled(t, work) }
	switch {
	case work.disk != "" && slices.Contains(chain, work.disk):
		return longWork{s.live(id, func(ctx context.Context) error { return s.deps.Hypervisor.PullLayer(ctx, id, work.disk, below.Path) }), pulled}, nil
	case work.disk != "":
		return longWork{s.mergeAtRest(t, work.disk, work.layer, below), func(t diskTree, chain []string) error {
			if slices.Contains(chain, work.disk) {
				return nil // a QEMU was started on them as they were: it is to leave the layer, too
			}
			return s.recordPulled(t, work)
		}}, nil
	case work.child != nil && slices.Contains(chain, work.child.Path):
		return longWork{
			s.live(id, func(ctx context.Context) error {
				return s.deps.Hypervisor.CommitLayer(ctx, id, work.child.Path, work.layer.Path)
			}),
			func(t diskTree, chain []string) error { return s.endCommit(ctx, t, work, chain) },
		}, nil
	case work.child != nil && slices.Contains(chain, work.layer.Path):
		return longWork{}, s.endCommit(ctx, t, work, chain) // QEMU has done it for an earlier try
	case work.child != nil:
		return longWork{s.mergeAtRest(t, work.child.Path, work.layer, below), func(t diskTree, chain []string) error {
			if slices.Contains(chain, work.child.Path) {
				return nil // as above
			}
			// A QEMU that has ended may have set them on the layer below.
			if err := s.setBases(ctx, work.beside, work.child.Path, nil); err != nil {
				return err
			}
			return s.recordPulled(t, work)
		}}, nil
	}
	return longWork{}, s.dropLayer(ctx, t, work.layer, chain)
}

// recordPulled records that a disk or a layer is on what was below a layer: nothing is on that any more.
func (s *Service) recordPulled(t diskTree, work layerWork) error {
	_, err := s.updateTree(t, "layer pulled", func(t vm.DiskTree) (vm.DiskTree, error) {
		t.Stale = true
		if work.disk != "" {
			t.Disks, t.DataDisks = slices.Clone(t.Disks), slices.Clone(t.DataDisks)
			for i := range t.Disks {
				if t.Disks[i].Path == work.disk {
					t.Disks[i].Layer = work.layer.Parent
				}
			}
			for i := range t.DataDisks {
				if t.DataDisks[i].Path == work.disk {
					t.DataDisks[i].Layer = work.layer.Parent
				}
			}
			return t, nil
		}
		child := *work.child
		child.Parent = work.layer.Parent
		t.Layers = withLayer(t.Layers, child)
		return t, nil
	})
	return err
}

// endCommit records that the file below a layer has all that the layer's had, and takes its place. What else is on the
// layer than QEMU's own is set on that file first.
func (s *Service) endCommit(ctx context.Context, t diskTree, work layerWork, chain []string) error {
	if slices.Contains(chain, work.child.Path) {
		return fmt.Errorf("QEMU still reads %s: %w", work.child.Path, errdefs.ErrUnavailable)
	}
	if err := s.setBases(ctx, work.beside, work.layer.Path, chain); err != nil {
		return err
	}
	_, err := s.updateTree(t, "layer committed", func(t vm.DiskTree) (vm.DiskTree, error) {
		t.Stale = true
		child, layer := *work.child, work.layer
		child.Path, layer.Path = layer.Path, child.Path
		child.Parent = layer.Parent
		t.Layers = withLayer(withLayer(t.Layers, child), layer)
		return t, nil
	})
	return err
}

// setBases sets files on another one, but those that QEMU has open: it has done that itself.
func (s *Service) setBases(ctx context.Context, files []string, base string, chain []string) error {
	for _, path := range files {
		if slices.Contains(chain, path) {
			continue
		}
		if err := s.deps.Disks.SetBase(ctx, path, vm.BackingFile{Path: base, Format: vm.FormatQCOW2}); err != nil {
			return err
		}
	}
	return nil
}

// dropLayer removes a layer that nothing is on.
func (s *Service) dropLayer(ctx context.Context, t diskTree, l vm.Layer, chain []string) error {
	if slices.Contains(chain, l.Path) {
		return fmt.Errorf("QEMU still has %s open, which nothing on record is on: %w", l.Path, errdefs.ErrFailedPrecondition)
	}
	if err := s.removeWithNVRAM(ctx, l.Path, l.NVRAM); err != nil {
		return err
	}
	_, err := s.updateTree(t, "layer removed", func(t vm.DiskTree) (vm.DiskTree, error) {
		t.Layers = withoutLayer(t.Layers, l.ID)
		return t, nil
	})
	return err
}

// chainsOf lists the files that the VM's QEMU has open for each of its disks, none without a QEMU.
func (s *Service) chainsOf(ctx context.Context, sandboxID string) ([][]string, error) {
	files, err := s.deps.Hypervisor.Chains(ctx, sandboxID)
	if errors.Is(err, errdefs.ErrFailedPrecondition) || errors.Is(err, errdefs.ErrNotFound) {
		return nil, nil
	}
	return files, err
}

// forgetDeleted forgets the snapshots that were deleted, with their memory.
func (s *Service) forgetDeleted(ctx context.Context, sb vm.Sandbox) error {
	for _, t := range s.treesOf(sb) {
		for _, snap := range t.Snapshots {
			if snap.State != vm.SnapshotDeleting {
				continue
			}
			if err := s.removeCheckpoint(ctx, sb.ID, snap); err != nil {
				return err
			}
			if err := s.deps.Disks.RemoveFile(ctx, s.cfg.Paths.SnapshotMemory(sb.ID, snap.ID)); err != nil {
				return err
			}
			if _, err := s.updateTree(t, "snapshot deleted", func(t vm.DiskTree) (vm.DiskTree, error) {
				return withoutSnapshot(t, snap.ID), nil
			}); err != nil {
				return err
			}
		}
	}
	return nil
}

// withoutSnapshot forgets one snapshot: those that followed it follow the one before it.
func withoutSnapshot(t vm.DiskTree, id string) vm.DiskTree {
	gone, ok := snapshotByID(t, id)
	if !ok {
		return t
	}
	var rest []vm.Snapshot
	for _, snap := range t.Snapshots {
		if snap.ID == gone.ID {
			continue
		}
		if snap.Parent == gone.ID {
			snap.Parent = gone.Parent
		}
		rest = append(rest, snap)
	}
	t.Snapshots = rest
	if t.Current == gone.ID {
		t.Current = gone.Parent
	}
	return t
}
