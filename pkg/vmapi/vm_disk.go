// SPDX-License-Identifier: Apache-2.0

package vmapi

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// VMDisks are the use cases of the disks of VMs.
type VMDisks interface {
	AttachDisk(ctx context.Context, ref, name string, spec vm.DataDiskSpec) (vm.DataDisk, error)
	DetachDisk(ctx context.Context, ref, name string, req vm.DetachRequest) error
	ResizeDisk(ctx context.Context, ref, name string, size int64, grow bool) (vm.DiskResized, error)
	VMDisks(ctx context.Context, ref string) ([]vm.VMDisk, error)
}

// wordFor is the key of a table's value; known is false for none. The zero value stands for "".
func wordFor[K ~string, V ~int32](table map[K]V, value V) (word K, known bool) {
	if value == 0 {
		return "", true
	}
	for k, v := range table {
		if v == value {
			return k, true
		}
	}
	return "", false
}

// dataDiskSpec converts what a VM is to have; the use case judges it.
func dataDiskSpec(req *vmletv1.AttachDiskRequest) (vm.DataDiskSpec, error) {
	format, known := wordFor(diskFormats, req.GetFormat())
	if !known {
		return vm.DataDiskSpec{}, fmt.Errorf("format: %s is not known: %w", req.GetFormat(), errdefs.ErrInvalidArgument)
	}
	bus, known := wordFor(diskBuses, req.GetBus())
	if !known {
		return vm.DataDiskSpec{}, fmt.Errorf("bus: %s is not known: %w", req.GetBus(), errdefs.ErrInvalidArgument)
	}
	return vm.DataDiskSpec{
		Path: req.GetPath(), Size: req.GetSizeBytes(), Format: format, Bus: bus, Serial: req.GetSerial(), ReadOnly: req.GetReadOnly(),
	}, nil
}

func checkDiskName(name string) error {
	if name == "" {
		return fmt.Errorf("name: must not be empty: the name of a disk of the VM: %w", errdefs.ErrInvalidArgument)
	}
	return nil
}

func vmDisk(d vm.VMDisk) *vmletv1.VMDisk {
	out := &vmletv1.VMDisk{
		Name: d.Name, Role: vmletv1.VMDiskRole_VM_DISK_ROLE_DATA, State: vmDiskStates[d.State],
		SizeBytes: d.Size, AllocatedBytes: d.Allocated, Bus: diskBuses[d.Bus], Target: d.Target, Serial: d.Serial,
		ReadOnly: d.ReadOnly, Owned: d.Own, Problem: d.Problem,
	}
	switch {
	case d.Root:
		out.Role = vmletv1.VMDiskRole_VM_DISK_ROLE_ROOT
	case d.Seed:
		out.Role = vmletv1.VMDiskRole_VM_DISK_ROLE_SEED
	}
	out.Layers = layersOf(d.Layers)
	return out
}

func layersOf(layers []vm.DiskLayer) (out []*vmletv1.DiskLayer) {
	for _, l := range layers {
		out = append(out, &vmletv1.DiskLayer{Path: l.Path, Format: diskFormats[l.Format], AllocatedBytes: l.Allocated, Shared: l.Shared})
	}
	return out
}
