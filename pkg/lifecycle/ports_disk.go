// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"

	"github.com/vmlet/vmlet/pkg/vm"
)

// DiskHotplug is the part of Hypervisor that is about disks of a machine which is there already. target is libvirt's name
// for a disk. All are NotFound without a domain.
type DiskHotplug interface {
	// AttachDisk plugs a disk in: into the running machine and into its definition, or into the definition of one that is
	// not active. A machine that has it is left alone. ResourceExhausted: all PCIe ports are taken. After an error the
	// definition is as it was, unless libvirt is away.
	AttachDisk(ctx context.Context, id string, disk vm.MachineDisk) error
	// UnplugDisk asks the guest to let go of a disk and returns; EventDeviceRemoved says that it has. The request cannot be
	// taken back, but by a reset, which grants it. Idempotent, also for a disk that is not there. FailedPrecondition if not active.
	UnplugDisk(ctx context.Context, id, target string) error
	// ForgetDisk takes a disk out of the definition, for the next boot. Idempotent.
	ForgetDisk(ctx context.Context, id, target string) error
	// ResizeDisk gives a disk of the running machine that many bytes, and tells the guest. Of a block device it tells QEMU
	// and the guest only. FailedPrecondition if not active.
	ResizeDisk(ctx context.Context, id, target string, size int64) error
	// LiveDisks are the disks of the running machine. FailedPrecondition if not active.
	LiveDisks(ctx context.Context, id string) ([]vm.LiveDisk, error)
}

// DataDisks is the part of Disks that is about data disks.
type DataDisks interface {
	// CreateData makes an empty qcow2 file of size bytes, whole or not at all. An existing file is left alone: it has a
	// guest's data.
	CreateData(ctx context.Context, path string, size int64) error
	// Inspect looks at a disk of ours, also while a VM uses it. NotFound if there is no file.
	Inspect(ctx context.Context, path string, format vm.DiskFormat) (vm.DiskSource, error)
	// Source looks at a caller's file or block device, and judges whether a VM may have it: FailedPrecondition, with what
	// to do about it. NotFound if nothing is there. Nothing is changed, now or ever.
	Source(ctx context.Context, path string, format vm.DiskFormat, readOnly bool) (vm.DiskSource, error)
}

// GuestDisks is the part of Guest that is about disks, which it knows by their serial numbers. Only vmlet-agent can.
type GuestDisks interface {
	// DiskUse says what in the guest uses a disk, such as where it is mounted; "" for nothing.
	DiskUse(ctx context.Context, id, serial string) (string, error)
	// GrowFileSystem has the file system on a disk take all of its size bytes, which the guest may still have to notice.
	// Idempotent.
	GrowFileSystem(ctx context.Context, id, serial string, size int64) (vm.FileSystemGrowth, error)
}
