// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"fmt"
	"slices"

	"github.com/vmlet/vmlet/pkg/vm"
)

// rootDisk is the disk that a container is to boot from.
type rootDisk struct {
	vm.Disk
	// undo takes back what was recorded for it, and the file if this very call is to make
	// it: any other file may hold a guest's data. nil where nothing was recorded.
	undo func(ctx context.Context) error
	// persistent is the name of a persistent disk, made whether its file must be there.
	persistent string
	made       bool
}

// intendRoot finds or records the root disk of a container, as its pod wants it.
func (s *Service) intendRoot(sb vm.Sandbox, c vm.Container, image vm.Image, ask vm.Overrides) (rootDisk, error) {
	disk := vm.Disk{
		Container: c.Spec.Name, ImageID: image.ID,
		Backing: image.Path, BackingFormat: image.Format,
		Size: max(image.VirtualSize, ask.RootSize),
	}
	switch ask.RootDisk {
	case vm.RootDiskPersistent:
		return s.intendPersistent(sb, disk, ask)
	case vm.RootDiskFresh:
		disk.ContainerID = c.ID
		disk.Path = s.cfg.Paths.FreshDisk(sb.ID, c.ID)
	case vm.RootDiskSandbox, "":
		if found, ok := findDisk(sb, c.Spec); ok {
			return rootDisk{Disk: found}, nil
		}
		disk.Path = s.cfg.Paths.RootDisk(sb.ID, c.Spec.Name, image.ID)
	}
	disk.NVRAM = nvramFor(disk.Path, ask)
	if _, err := s.updateSandbox(sb.ID, "disk intended", func(st vm.SandboxStatus) (vm.SandboxStatus, error) {
		st.Disks = append(append([]vm.Disk(nil), st.Disks...), disk)
		return st, nil
	}); err != nil {
		return rootDisk{}, err
	}
	return rootDisk{Disk: disk, undo: func(ctx context.Context) error { return s.forgetDisk(ctx, sb.ID, disk) }}, nil
}

// findDisk finds the root disk of earlier boots: same container name, same image.
func findDisk(sb vm.Sandbox, spec vm.ContainerSpec) (vm.Disk, bool) {
	for _, d := range sb.Status.Disks {
		if d.Container == spec.Name && d.ImageID == spec.ImageID && d.ContainerID == "" {
			return d, true
		}
	}
	return vm.Disk{}, false
}

// makeRoot makes the disk's file, or finds it.
func (s *Service) makeRoot(ctx context.Context, disk rootDisk) error {
	if disk.persistent != "" {
		return s.makePersistent(ctx, disk)
	}
	if err := s.deps.Disks.CreateRoot(ctx, disk.Disk); err != nil {
		return err
	}
	return s.deps.Disks.GrowRoot(ctx, disk.Disk) // a resize may have been cut short
}

// forgetDisk removes a disk that no guest will see again, and the sandbox's record of it.
func (s *Service) forgetDisk(ctx context.Context, sandboxID string, disk vm.Disk) error {
	if err := s.merges.interrupt(ctx, sandboxID); err != nil {
		return err
	}
	if err := s.removeWithNVRAM(ctx, disk.Path, disk.NVRAM); err != nil {
		return err
	}
	_, err := s.updateSandbox(sandboxID, "disk forgotten", func(st vm.SandboxStatus) (vm.SandboxStatus, error) {
		var rest []vm.Disk
		for _, d := range st.Disks {
			if d.Path != disk.Path {
				rest = append(rest, d)
			}
		}
		st.Disks = rest
		return st, nil
	})
	return err
}

// forgetFreshDisks removes the disks of earlier containers alone. The VM is free, and what
// has exited is never started again: nothing reads them any more.
func (s *Service) forgetFreshDisks(ctx context.Context, sb vm.Sandbox) error {
	for _, d := range sb.Status.Disks {
		if d.ContainerID == "" {
			continue
		}
		if err := s.forgetDisk(ctx, sb.ID, d); err != nil {
			return err
		}
	}
	return nil
}

// forgetDiskOf removes the disk that is of this container alone, if there is one.
func (s *Service) forgetDiskOf(ctx context.Context, c vm.Container) error {
	sb, err := s.deps.Store.Sandboxes.Get(c.SandboxID)
	if err != nil {
		return fmt.Errorf("sandbox %s: %w", c.SandboxID, err)
	}
	for _, d := range sb.Status.Disks {
		if d.ContainerID == c.ID {
			return s.forgetDisk(ctx, sb.ID, d)
		}
	}
	return nil
}

// SandboxDisks are the root disks that a sandbox has: its own, and the persistent ones that
// it holds.
func (s *Service) SandboxDisks(sb vm.Sandbox) []vm.Disk {
	disks := slices.Clip(sb.Status.Disks)
	for _, d := range s.heldBy(sb) {
		disks = append(disks, d.Disk)
	}
	return disks
}
