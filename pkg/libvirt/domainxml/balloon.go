// SPDX-License-Identifier: Apache-2.0

package domainxml

import (
	"libvirt.org/go/libvirtxml"

	"github.com/vmlet/vmlet/pkg/vm"
)

// balloon gives pages that the guest freed back to the host, by free page reporting. It
// polls no statistics: nothing reads the guest's own figures, and each poll wakes it.
func balloon(_ vm.Machine, d *libvirtxml.Domain) error {
	d.Devices.MemBalloon = &libvirtxml.DomainMemBalloon{Model: "virtio", FreePageReporting: "on"}
	return nil
}
