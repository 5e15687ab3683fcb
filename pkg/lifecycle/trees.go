// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"fmt"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/annotations"
	"github.com/vmlet/vmlet/pkg/vm"
)

// diskTree is a tree of layers as it was read, and where it is kept. Under the sandbox's lock it is as it is on record.
type diskTree struct {
	vm.DiskTree

	// sandboxID is the sandbox whose VM has the tree's disks: its locks are those of the tree. "" for a persistent disk that
	// nobody holds.
	sandboxID string
	// persistent is the name of the persistent disk that the tree belongs to, "" for the sandbox's own, and diskID its ID.
	persistent, diskID string
}

// diskInTree is a disk with the tree that it is in.
type diskInTree struct {
	vm.Disk

	tree diskTree
}

// treesOf are the trees that the VM of a sandbox has disks of: its own, and those of the persistent disks that it holds. None
// of those once it is stopped: others may have them then.
func (s *Service) treesOf(sb vm.Sandbox) []diskTree {
	trees := []diskTree{ownTree(sb)}
	for _, d := range s.heldBy(sb) {
		trees = append(trees, treeOfDisk(d, sb.ID))
	}
	return trees
}

// lastTreesOf are treesOf also of a sandbox that is stopped or gone, as long as nobody else has taken the disks.
func (s *Service) lastTreesOf(sandboxID string) (trees []diskTree) {
	if sb, err := s.deps.Store.Sandboxes.Get(sandboxID); err == nil {
		trees = append(trees, ownTree(sb))
	}
	for _, d := range s.lastHeldBy(sandboxID) {
		trees = append(trees, treeOfDisk(d, sandboxID))
	}
	return trees
}

func treeOfDisk(d vm.PersistentDisk, sandboxID string) diskTree {
	return diskTree{DiskTree: d.Tree(), sandboxID: sandboxID, persistent: d.Key.Name(), diskID: d.ID}
}

// ownTree is the tree that belongs to a sandbox.
func ownTree(sb vm.Sandbox) diskTree {
	return diskTree{DiskTree: sb.Status.DiskTree, sandboxID: sb.ID}
}

// presentTree is the tree that the VM of a sandbox boots from, or did last. It has the snapshots that callers name.
func (s *Service) presentTree(sb vm.Sandbox) diskTree {
	if _, disk, err := s.bootDisk(sb); err == nil {
		return disk.tree
	}
	trees := s.treesOf(sb)
	return trees[len(trees)-1]
}

// treeNow reads a tree again; false if the sandbox has it no more.
func (s *Service) treeNow(sb vm.Sandbox, t diskTree) (diskTree, bool) {
	for _, now := range s.treesOf(sb) {
		if now.sameAs(t) {
			return now, true
		}
	}
	return t, false
}

// treeWith is the tree that a disk is in.
func (s *Service) treeWith(sb vm.Sandbox, disk vm.Disk) vm.DiskTree {
	for _, t := range s.treesOf(sb) {
		if slices.ContainsFunc(t.Disks, func(d vm.Disk) bool { return d.Path == disk.Path }) {
			return t.DiskTree
		}
	}
	return sb.Status.DiskTree
}

// snapshotOf finds a snapshot of a sandbox's VM, and its tree, by its ID.
func snapshotOf(trees []diskTree, id string) (diskTree, vm.Snapshot, bool) {
	for _, t := range trees {
		if snap, ok := snapshotByID(t.DiskTree, id); ok {
			return t, snap, true
		}
	}
	return diskTree{}, vm.Snapshot{}, false
}

func (t diskTree) sameAs(other diskTree) bool {
	return t.sandboxID == other.sandboxID && t.diskID == other.diskID
}

// errDiskFreed is for what somebody else may have taken.
var errDiskFreed = fmt.Errorf("its root disk is persistent and was given back when the sandbox was stopped; its snapshots are the disk's (vmletctl disk ls), for the pod that uses it next: %w",
	errdefs.ErrFailedPrecondition)

// mayHaveSnapshots is errDiskFreed for a sandbox whose snapshots are its own no more.
func mayHaveSnapshots(sb vm.Sandbox) error {
	ask, err := annotations.Parse(sb.Spec.AllSettings())
	if err == nil && ask.RootDisk == vm.RootDiskPersistent && sb.Status.Stopped() {
		return errDiskFreed
	}
	return nil
}

// updateTree changes a tree, wherever it is on record, and returns it as it is then.
func (s *Service) updateTree(t diskTree, step string, change func(vm.DiskTree) (vm.DiskTree, error)) (diskTree, error) {
	return s.intendInTree(t, step, "", change)
}

// intendInTree is updateTree for the intent of an operation, which comes on record with it: see withOperation. object is what
// recovery knows its outcome by. The tree of a persistent disk has a record of its own: there the operation comes first, and
// what is not found of its object was never begun.
func (s *Service) intendInTree(t diskTree, step, object string, change func(vm.DiskTree) (vm.DiskTree, error)) (diskTree, error) {
	if t.persistent != "" {
		if object != "" {
			if err := s.recordOperation(t.sandboxID, object); err != nil {
				return t, err
			}
		}
		return s.updatePersistentTree(t, step, change)
	}
	sb, err := s.updateSandbox(t.sandboxID, step, func(st vm.SandboxStatus) (_ vm.SandboxStatus, err error) {
		if st.DiskTree, err = change(st.DiskTree); err != nil || object == "" {
			return st, err
		}
		return s.withOperation(st, t.sandboxID, object), nil
	})
	if err != nil {
		return t, err
	}
	return ownTree(sb), nil
}

// updatePersistentTree is updateTree for the tree of a persistent disk, which nobody but its holder changes.
func (s *Service) updatePersistentTree(t diskTree, step string, change func(vm.DiskTree) (vm.DiskTree, error)) (diskTree, error) {
	d, err := s.deps.Store.Disks.Update(t.persistent, step, func(d vm.PersistentDisk) (vm.PersistentDisk, error) {
		if d.ID != t.diskID || d.Status.Holder != t.sandboxID || d.Status.Removing {
			return d, fmt.Errorf("root disk %s is not the sandbox's any more: %w", t.persistent, errdefs.ErrAborted)
		}
		next, err := change(d.Tree())
		if err != nil {
			return d, err
		}
		return d.WithTree(next), nil
	})
	if err != nil {
		return t, err
	}
	return treeOfDisk(d, t.sandboxID), nil
}

// layeredDisk is the file of a new disk on a layer of a tree.
func (s *Service) layeredDisk(t diskTree, id string) string {
	if t.persistent != "" {
		return s.cfg.Paths.PersistentLayer(t.diskID, id)
	}
	return s.cfg.Paths.LayeredDisk(t.sandboxID, id)
}
