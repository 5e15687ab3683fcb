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

// prefixes begin the names of devices, by bus.
var prefixes = map[string]string{vm.BusVirtio: "vd", vm.BusSCSI: "sd"}

// disks are the machine's block devices, on virtio or virtio-scsi: the distributions'
// cloud kernels have drivers for nothing else.
func disks(m vm.Machine, d *libvirtxml.Domain) error {
	used := map[string]int{}
	var boot uint
	for _, disk := range m.Disks {
		if disk.Target == "" {
			disk.Target = prefixes[disk.Bus] + letters(used[disk.Bus])
			used[disk.Bus]++
		}
		out, err := Disk(disk)
		if err != nil {
			return err
		}
		if disk.Boot {
			boot++
			out.Boot = &libvirtxml.DomainDeviceBoot{Order: boot}
		}
		d.Devices.Disks = append(d.Devices.Disks, *out)
	}
	return nil
}

// Disk is one block device, as it is in a definition and as it is plugged into a running guest.
func Disk(disk vm.MachineDisk) (*libvirtxml.DomainDisk, error) {
	if prefixes[disk.Bus] == "" {
		return nil, invalid("disk %s: bus %q is neither %q nor %q", disk.Path, disk.Bus, vm.BusVirtio, vm.BusSCSI)
	}
	if err := checkDisk(disk); err != nil {
		return nil, err
	}
	out := &libvirtxml.DomainDisk{
		Device:       "disk",
		Driver:       diskDriver(disk),
		Source:       diskSource(disk),
		BackingStore: backingStore(disk.Backing),
		Target:       &libvirtxml.DomainDiskTarget{Dev: disk.Target, Bus: disk.Bus},
		Serial:       disk.Serial,
	}
	if disk.ReadOnly {
		out.ReadOnly = &libvirtxml.DomainDiskReadOnly{}
	}
	return out, nil
}

// diskSource is where the disk's bytes are. What is not ours keeps its owner: libvirt would hand it to QEMU's user.
func diskSource(disk vm.MachineDisk) *libvirtxml.DomainDiskSource {
	var labels []libvirtxml.DomainDeviceSecLabel
	if disk.Foreign {
		labels = keepOwner()
	}
	if disk.Block {
		return &libvirtxml.DomainDiskSource{Block: &libvirtxml.DomainDiskSourceBlock{Dev: disk.Path, SecLabel: labels}}
	}
	source := fileSource(disk.Path)
	source.File.SecLabel = labels
	return source
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

// Files is how a disk names its file, and those below it, nearest first.
func Files(path string, backing []vm.BackingFile) (*libvirtxml.DomainDiskSource, *libvirtxml.DomainDiskBackingStore) {
	return fileSource(path), backingStore(backing)
}

// backingStore spells out the chain below a disk and ends it with an empty element, so
// that libvirt never opens an image to look for more. Without relabel='no' libvirt would
// hand shared images to QEMU's user, and leave them there.
func backingStore(chain []vm.BackingFile) *libvirtxml.DomainDiskBackingStore {
	if len(chain) == 0 {
		return &libvirtxml.DomainDiskBackingStore{}
	}
	source := fileSource(chain[0].Path)
	source.File.SecLabel = keepOwner()
	return &libvirtxml.DomainDiskBackingStore{
		Format:       &libvirtxml.DomainDiskFormat{Type: string(chain[0].Format)},
		Source:       source,
		BackingStore: backingStore(chain[1:]),
	}
}

// keepOwner has libvirt leave a file's owner alone.
func keepOwner() []libvirtxml.DomainDeviceSecLabel {
	return []libvirtxml.DomainDeviceSecLabel{{Model: "dac", Relabel: "no"}}
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
