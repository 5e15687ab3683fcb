// SPDX-License-Identifier: Apache-2.0

package domainxml

import (
	"fmt"
	"path/filepath"

	"libvirt.org/go/libvirtxml"

	"github.com/vmlet/vmlet/pkg/vm"
)

// maxSerial is the length of a virtio-blk serial number; QEMU cuts longer ones silently.
const maxSerial = 20

// disks are the machine's block devices, on virtio or virtio-scsi: the distributions'
// cloud kernels have drivers for nothing else.
func disks(m vm.Machine, d *libvirtxml.Domain) error {
	prefixes := map[string]string{vm.BusVirtio: "vd", vm.BusSCSI: "sd"}
	used := map[string]int{}
	var boot uint
	for _, disk := range m.Disks {
		prefix, ok := prefixes[disk.Bus]
		if !ok {
			return invalid("disk %s: bus %q is neither %q nor %q", disk.Path, disk.Bus, vm.BusVirtio, vm.BusSCSI)
		}
		if err := checkDisk(disk); err != nil {
			return err
		}
		out := libvirtxml.DomainDisk{
			Device:       "disk",
			Driver:       diskDriver(disk),
			Source:       fileSource(disk.Path),
			BackingStore: backingStore(disk.Backing),
			Target:       &libvirtxml.DomainDiskTarget{Dev: prefix + letters(used[disk.Bus]), Bus: disk.Bus},
			Serial:       disk.Serial,
		}
		used[disk.Bus]++
		if disk.ReadOnly {
			out.ReadOnly = &libvirtxml.DomainDiskReadOnly{}
		}
		if disk.Boot {
			boot++
			out.Boot = &libvirtxml.DomainDeviceBoot{Order: boot}
		}
		d.Devices.Disks = append(d.Devices.Disks, out)
	}
	return nil
}

func checkDisk(disk vm.MachineDisk) error {
	if len(disk.Serial) > maxSerial {
		return invalid("disk %s: serial number %q is longer than %d", disk.Path, disk.Serial, maxSerial)
	}
	files := append([]vm.BackingFile{{Path: disk.Path, Format: disk.Format}}, disk.Backing...)
	for _, f := range files {
		if !filepath.IsAbs(f.Path) {
			return invalid("disk file %q: its path is not absolute", f.Path)
		}
		if f.Format == "" {
			return invalid("disk file %s: its format is not given, and guessing it would trust the guest", f.Path)
		}
	}
	return nil
}

// diskDriver chooses how QEMU does I/O. cache=writeback: one copy of a base image in the
// host's page cache serves all guests on it, flushes of the guest are still honoured, and
// it works on every file system, where O_DIRECT does not (tmpfs).
func diskDriver(disk vm.MachineDisk) *libvirtxml.DomainDiskDriver {
	driver := &libvirtxml.DomainDiskDriver{
		Name: "qemu", Type: string(disk.Format), Cache: "writeback", IO: "threads", ErrorPolicy: disk.ErrorPolicy,
	}
	if !disk.ReadOnly {
		driver.Discard = "unmap"
	}
	return driver
}

// backingStore spells out the chain below a disk and ends it with an empty element, so
// that libvirt never opens an image to look for more. Without relabel='no' libvirt would
// hand shared images to QEMU's user, and leave them there.
func backingStore(chain []vm.BackingFile) *libvirtxml.DomainDiskBackingStore {
	if len(chain) == 0 {
		return &libvirtxml.DomainDiskBackingStore{}
	}
	source := fileSource(chain[0].Path)
	source.File.SecLabel = []libvirtxml.DomainDeviceSecLabel{{Model: "dac", Relabel: "no"}}
	return &libvirtxml.DomainDiskBackingStore{
		Format:       &libvirtxml.DomainDiskFormat{Type: string(chain[0].Format)},
		Source:       source,
		BackingStore: backingStore(chain[1:]),
	}
}

func fileSource(path string) *libvirtxml.DomainDiskSource {
	return &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: path}}
}

// letters numbers disks as Linux does: a to z, then aa, ab and so on.
func letters(n int) string {
	if n < 26 {
		return string(rune('a' + n))
	}
	return fmt.Sprintf("%s%c", letters(n/26-1), 'a'+n%26)
}
