// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/annotations"
	"github.com/vmlet/vmlet/pkg/paths"
	"github.com/vmlet/vmlet/pkg/vm"
)

// What UEFI keeps over a boot, such as what to boot from, is a file beside the root disk, and goes where that goes: a fresh disk
// has one of its own, a persistent disk keeps its. The record of the disk names it before libvirt makes it, at the first start; so
// whoever removes the disk removes it too. QEMU writes to one file from its start to its end, and cannot be told to take another:
// a snapshot has a copy, that belongs to its layer, and what is restored begins with a copy of that.

// nvramFor is where UEFI is to keep what it does for a root disk, "" for a pod that boots by BIOS.
func nvramFor(disk string, ask vm.Overrides) string {
	if ask.Firmware != vm.FirmwareEFI {
		return ""
	}
	return paths.NVRAM(disk)
}

// nvramBeside is where it is kept for a disk that comes of another one.
func nvramBeside(disk string, of vm.Disk) string {
	if of.NVRAM == "" {
		return ""
	}
	return paths.NVRAM(disk)
}

// removeWithNVRAM removes the file of a root disk, or of a layer, and what UEFI kept with it. Idempotent.
func (s *Service) removeWithNVRAM(ctx context.Context, path, nvram string) error {
	if err := s.deps.Disks.RemoveFile(ctx, path); err != nil || nvram == "" {
		return err
	}
	return s.deps.Disks.RemoveFile(ctx, nvram)
}

// firmwareOf is what a checkpoint says: nothing of BIOS.
func firmwareOf(ask vm.Overrides) vm.Firmware {
	if ask.Firmware == vm.FirmwareEFI {
		return vm.FirmwareEFI
	}
	return ""
}

// mayBootBy refuses a firmware that libvirt does not have on this host. Until it has said what it has, it is asked with the start.
func (s *Service) mayBootBy(ask vm.Overrides) error {
	host := s.host.Load()
	if host == nil || ask.Firmware != vm.FirmwareEFI {
		return nil
	}
	if why := hasUEFI(*host); why != "" {
		return fmt.Errorf("annotation %s: %s: %s: %w", annotations.Firmware, ask.Firmware, why, errdefs.ErrFailedPrecondition)
	}
	return nil
}

// hasUEFI is a capability of the host.
func hasUEFI(h hostFacts) string {
	if slices.Contains(h.Firmwares, string(vm.FirmwareEFI)) {
		return ""
	}
	return fmt.Sprintf("libvirt %s finds no UEFI firmware for guests on this host: install one (package ovmf, elsewhere edk2-ovmf) and restart libvirtd", h.Libvirt)
}

// bootsBy refuses a pod for a persistent disk that was made for another firmware: what is on it boots by one, and a guest that
// finds nothing to boot from would only be seen on its screen.
func bootsBy(d vm.PersistentDisk, ask vm.Overrides) error {
	is, want := vm.FirmwareWith(d.Disk.NVRAM), cmp.Or(ask.Firmware, vm.FirmwareBIOS)
	if is == want {
		return nil
	}
	name := d.Key.Name()
	return fmt.Errorf("root disk %s was made for guests that boot by %s, and the pod's boots by %s; run it with %s: %s, or remove the disk with all that is on it: vmletctl disk rm %s: %w",
		name, is, want, annotations.Firmware, is, name, errdefs.ErrFailedPrecondition)
}

// errNVRAMChanged is for a snapshot in whose moment the guest may have written to what UEFI keeps.
var errNVRAMChanged = fmt.Errorf("the guest changes what its firmware keeps, so that disk and firmware would not be of one moment; try again: %w", errdefs.ErrUnavailable)

// snapshotTries is how often a snapshot is taken that errNVRAMChanged stands in the way of. A firmware writes while it boots, and
// few guests do after that.
const snapshotTries = 3

// withNVRAM takes a snapshot with a copy of what UEFI keeps: read before, and found to be the same afterwards.
func (s *Service) withNVRAM(ctx context.Context, disk vm.Disk, snap vm.Snapshot, take func(context.Context) error) error {
	if err := s.copyNVRAM(ctx, disk, snap); err != nil {
		return err
	}
	if err := take(ctx); err != nil {
		return err
	}
	return s.sameNVRAM(ctx, disk, snap)
}

// copyNVRAM makes the copy that a snapshot has.
func (s *Service) copyNVRAM(ctx context.Context, disk vm.Disk, snap vm.Snapshot) error {
	if snap.Disk.NVRAM == "" {
		return nil
	}
	return s.deps.Disks.CopyFile(ctx, disk.NVRAM, snap.Disk.NVRAM)
}

// sameNVRAM is errNVRAMChanged where the copy is of another time than the disk, or was not made.
func (s *Service) sameNVRAM(ctx context.Context, disk vm.Disk, snap vm.Snapshot) error {
	if snap.Disk.NVRAM == "" {
		return nil
	}
	same, err := s.deps.Disks.SameFiles(ctx, disk.NVRAM, snap.Disk.NVRAM)
	if err == nil && !same {
		err = errNVRAMChanged
	}
	return err
}

// bringNVRAM makes what a restored disk begins with, of the copy that its layer has.
func (s *Service) bringNVRAM(ctx context.Context, t vm.DiskTree, next vm.Disk) error {
	if next.NVRAM == "" {
		return nil
	}
	layer, ok := layerByID(t, next.Layer)
	if !ok {
		return fmt.Errorf("layer %s of the root disk is not on record: %w", next.Layer, errdefs.ErrDataLoss)
	}
	return s.deps.Disks.CopyFile(ctx, layer.NVRAM, next.NVRAM)
}
