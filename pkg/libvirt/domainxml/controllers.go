// SPDX-License-Identifier: Apache-2.0

package domainxml

import (
	"slices"

	"libvirt.org/go/libvirtxml"

	"github.com/vmlet/vmlet/pkg/vm"
)

// rootPorts is how many PCIe devices a machine can have besides its disks and NICs: some
// six are taken from the start, the rest are for what is plugged in later. Ports cannot
// be added to a running guest, and cost no boot time.
const rootPorts = 16

// controllers are the buses that devices sit on.
func controllers(m vm.Machine, d *libvirtxml.Domain) error {
	list := []libvirtxml.DomainController{
		{Type: "pci", Index: new(uint(0)), Model: "pcie-root"},
	}
	for i := range rootPorts + len(m.Disks) + len(m.NICs) {
		list = append(list, libvirtxml.DomainController{
			Type: "pci", Index: new(uint(i + 1)), Model: "pcie-root-port",
		})
	}
	// libvirt adds a USB controller unless it is told not to.
	list = append(list, libvirtxml.DomainController{Type: "usb", Index: new(uint(0)), Model: "none"})
	if slices.ContainsFunc(m.Disks, func(disk vm.MachineDisk) bool { return disk.Bus == vm.BusSCSI }) {
		list = append(list, SCSIController())
	}
	d.Devices.Controllers = list
	return nil
}

// SCSIController is what disks on BusSCSI are plugged into. A machine without any has none, until it gets its first.
func SCSIController() libvirtxml.DomainController {
	return libvirtxml.DomainController{Type: "scsi", Index: new(uint(0)), Model: "virtio-scsi"}
}
