// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/annotations"
	"github.com/vmlet/vmlet/pkg/vm"
)

// A persistent disk belongs to no sandbox: one takes it with CreateContainer and has it until
// it is stopped. Nothing is written for that moment. Whoever wants the disk next looks whether
// the sandbox that took it last is still there, so a crash cannot leave a disk taken, and
// after a reboot of the host the pod's next sandbox finds it free.

// intendPersistent takes the persistent disk of a container, or records that it is to be
// made.
func (s *Service) intendPersistent(sb vm.Sandbox, disk vm.Disk, ask vm.Overrides) (rootDisk, error) {
	key := vm.DiskKey{Tenant: sb.Spec.Tenant, Namespace: sb.Spec.Namespace, Container: disk.Container, Claim: ask.RootDiskClaim}
	if key.Claim == "" {
		key.PodUID = sb.Spec.UID
	}
	name := key.Name()
	known, err := s.deps.Store.Disks.Get(name)
	if errors.Is(err, errdefs.ErrNotFound) {
		d := vm.PersistentDisk{ID: newID(), Key: key, CreatedAt: s.now(), Disk: disk, Status: vm.PersistentDiskStatus{Holder: sb.ID}}
		d.Disk.Path = s.cfg.Paths.PersistentDisk(d.ID)
		d.Disk.NVRAM = nvramFor(d.Disk.Path, ask)
		err = s.deps.Store.Disks.Create(name, d, "persistent disk intended")
		if err == nil {
			return rootDisk{
				Disk: d.Disk, persistent: name,
				undo: func(ctx context.Context) error { return s.abandonPersistent(ctx, name) },
			}, nil
		}
		// AlreadyExists: another sandbox was faster.
	}
	if err != nil && !errors.Is(err, errdefs.ErrAlreadyExists) {
		return rootDisk{}, err
	}
	if known.Status.Holder == sb.ID && !known.Status.Removing && known.Disk.ImageID == disk.ImageID && known.Disk.Size >= ask.RootSize {
		return rootDisk{Disk: known.Disk, persistent: name, made: known.Status.Made}, nil
	}
	return s.takePersistent(sb, name, disk.ImageID, ask)
}

// takePersistent makes a sandbox the holder of a disk. FailedPrecondition if somebody else
// is, if it is being removed, or if it was made of another image or for another firmware.
func (s *Service) takePersistent(sb vm.Sandbox, name, imageID string, ask vm.Overrides) (rootDisk, error) {
	before := ""
	d, err := s.deps.Store.Disks.Update(name, "persistent disk taken", func(d vm.PersistentDisk) (vm.PersistentDisk, error) {
		if d.Status.Removing {
			return d, fmt.Errorf("root disk %s is being removed; try again when it is gone: %w", name, errdefs.ErrFailedPrecondition)
		}
		if holder := s.holderOf(d); holder != nil && holder.ID != sb.ID {
			return d, inUse(d, *holder)
		}
		if d.Disk.ImageID != imageID {
			return d, fmt.Errorf("root disk %s was made of image %s, and the pod wants %s; run it from the former image, or remove the disk with all that is on it: vmletctl disk rm %s: %w",
				name, d.Disk.ImageID, imageID, name, errdefs.ErrFailedPrecondition)
		}
		if err := bootsBy(d, ask); err != nil {
			return d, err
		}
		before, d.Status.Holder = d.Status.Holder, sb.ID
		d.Disk.Size = max(d.Disk.Size, ask.RootSize)
		return d, nil
	})
	if err != nil {
		return rootDisk{}, err
	}
	disk := rootDisk{Disk: d.Disk, persistent: name, made: d.Status.Made}
	if before != sb.ID {
		disk.undo = func(context.Context) error { return s.releasePersistent(name, sb.ID) }
	}
	return disk, nil
}

// makePersistent makes the disk's file, once, and later sees that it is there and big enough.
func (s *Service) makePersistent(ctx context.Context, disk rootDisk) error {
	if !disk.made {
		if err := s.deps.Disks.CreateRoot(ctx, disk.Disk); err != nil {
			return err
		}
		if _, err := s.deps.Store.Disks.Update(disk.persistent, "persistent disk made", func(d vm.PersistentDisk) (vm.PersistentDisk, error) {
			d.Status.Made = true
			return d, nil
		}); err != nil {
			return err
		}
	}
	err := s.deps.Disks.GrowRoot(ctx, disk.Disk) // a file of an earlier try may be smaller
	if errors.Is(err, errdefs.ErrNotFound) {
		return fmt.Errorf("the file of disk %s is gone, and is not made again over what was on it; put it back, or give it up: vmletctl disk rm %s: %s: %w",
			disk.persistent, disk.persistent, err, errdefs.ErrFailedPrecondition) //nolint:errorlint // its class would say that the pod's image is missing
	}
	return err
}

// releasePersistent gives a disk back that was taken for nothing.
func (s *Service) releasePersistent(name, sandboxID string) error {
	_, err := s.deps.Store.Disks.Update(name, "persistent disk released", func(d vm.PersistentDisk) (vm.PersistentDisk, error) {
		if d.Status.Holder == sandboxID {
			d.Status.Holder = ""
		}
		return d, nil
	})
	return err
}

// abandonPersistent removes a disk that no guest has ever seen.
func (s *Service) abandonPersistent(ctx context.Context, name string) error {
	d, err := s.deps.Store.Disks.Update(name, "persistent disk abandoned", func(d vm.PersistentDisk) (vm.PersistentDisk, error) {
		d.Status = vm.PersistentDiskStatus{Removing: true}
		return d, nil
	})
	if err != nil {
		return err
	}
	return s.finishRemoveDisk(ctx, d)
}

// holderOf is the sandbox that has a disk now, nil for none.
func (s *Service) holderOf(d vm.PersistentDisk) *vm.Sandbox {
	sb, err := s.deps.Store.Sandboxes.Get(d.Status.Holder)
	if err != nil || sb.Status.Stopped() {
		return nil
	}
	return &sb
}

// heldBy are the disks that a sandbox has now.
func (s *Service) heldBy(sb vm.Sandbox) []vm.PersistentDisk {
	if sb.Status.Stopped() {
		return nil
	}
	return s.lastHeldBy(sb.ID)
}

// lastHeldBy are the disks that a sandbox has, or had and nobody has taken since.
func (s *Service) lastHeldBy(sandboxID string) (held []vm.PersistentDisk) {
	for _, d := range s.deps.Store.Disks.All() {
		if d.Status.Holder == sandboxID {
			held = append(held, *d)
		}
	}
	return held
}

func inUse(d vm.PersistentDisk, holder vm.Sandbox) error {
	return fmt.Errorf("root disk %s is in use by sandbox %s (pod %s/%s); stop that one first, or let this pod have a disk of its own (%s): %w",
		d.Key.Name(), holder.ID, holder.Spec.Namespace, holder.Spec.Name, annotations.RootDiskClaim, errdefs.ErrFailedPrecondition)
}
