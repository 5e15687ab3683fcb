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

// Disks lists the persistent disks, oldest first, with their snapshots and what each takes on the host now.
func (s *Service) Disks(ctx context.Context) ([]vm.HeldDisk, error) {
	all := s.deps.Store.Disks.List()
	disks := make([]vm.HeldDisk, len(all))
	for i, d := range all {
		used, err := s.deps.Disks.DiskUsage(ctx, d.ID)
		if err != nil {
			return nil, fmt.Errorf("list disks: %w", err)
		}
		disks[i] = vm.HeldDisk{PersistentDisk: d, Holder: s.holderOf(d), Used: used.UsedBytes}
		if err := s.tellLayers(ctx, &disks[i]); err != nil {
			return nil, fmt.Errorf("list disks: %s: %w", d.Key.Name(), err)
		}
	}
	return disks, nil
}

// tellLayers completes a disk by its snapshots and files.
func (s *Service) tellLayers(ctx context.Context, d *vm.HeldDisk) error {
	t := treeOfDisk(d.PersistentDisk, "")
	if d.Holder != nil {
		t.sandboxID = d.Holder.ID
	}
	for _, snap := range t.Snapshots {
		info, err := s.snapshotInfo(ctx, t, snap)
		if err != nil {
			return err
		}
		d.Snapshots = append(d.Snapshots, info)
	}
	files := []string{d.Disk.Path}
	for _, l := range slices.Backward(t.Layers) {
		files = append(files, l.Path)
	}
	for _, path := range files {
		used, err := s.deps.Disks.FileUsage(ctx, path)
		if err != nil {
			return err
		}
		d.Layers = append(d.Layers, vm.DiskLayer{Path: path, Format: vm.FormatQCOW2, Allocated: int64(used.UsedBytes)})
	}
	image := vm.DiskLayer{Path: d.Disk.Backing, Format: d.Disk.BackingFormat, Shared: true}
	if found, err := s.deps.Images.Resolve(ctx, d.Disk.ImageID); err == nil {
		image.Allocated = found.Size
	}
	d.Layers = append(d.Layers, image)
	return nil
}

// RemoveDisk removes a persistent disk with all that is on it, and its snapshots. NotFound for an unknown name,
// FailedPrecondition while a sandbox holds the disk.
func (s *Service) RemoveDisk(ctx context.Context, name string) error {
	return s.shareErr(ctx, "remove disk "+name, func(ctx context.Context) error {
		return s.observed("disk_remove", func() error {
			d, err := s.deps.Store.Disks.Update(name, "persistent disk removing", func(d vm.PersistentDisk) (vm.PersistentDisk, error) {
				if holder := s.holderOf(d); holder != nil {
					return d, fmt.Errorf("it is in use by sandbox %s (pod %s/%s); stop that first: %w",
						holder.ID, holder.Spec.Namespace, holder.Spec.Name, errdefs.ErrFailedPrecondition)
				}
				d.Status.Removing = true
				return d, nil
			})
			if errors.Is(err, errdefs.ErrNotFound) {
				return fmt.Errorf("there is no disk %q; list them: vmletctl disk ls: %w", name, errdefs.ErrNotFound)
			}
			if err == nil {
				err = s.finishRemoveDisk(ctx, d)
			}
			if err != nil {
				return fmt.Errorf("remove disk %s: %w", name, err)
			}
			return nil
		})
	})
}

// finishRemoveDisk removes what is left of a disk whose removal is on record.
func (s *Service) finishRemoveDisk(ctx context.Context, d vm.PersistentDisk) error {
	if err := s.deps.Disks.RemoveDisk(ctx, d.ID); err != nil {
		return err
	}
	// The record keeps the image and the name. Somebody else may have finished this, and a
	// new disk have the name already: none is made while imageUse is held.
	s.imageUse.Lock()
	defer s.imageUse.Unlock()
	name := d.Key.Name()
	if now, err := s.deps.Store.Disks.Get(name); err != nil || now.ID != d.ID {
		return nil // it is gone
	}
	return s.deps.Store.Disks.Delete(name, "persistent disk removed")
}

// finishDiskRemovals goes on with removals that were cut short. What fails is logged and
// left to the next start, or to who asks again.
func (s *Service) finishDiskRemovals(ctx context.Context) {
	for _, d := range s.deps.Store.Disks.List() {
		if !d.Status.Removing {
			continue
		}
		if err := s.finishRemoveDisk(ctx, d); err != nil {
			log.From(ctx).Error("a disk is not removed yet; remove it again, or restart", zap.String("disk", d.Key.Name()), zap.Error(err))
		}
	}
}
