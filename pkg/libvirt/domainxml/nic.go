// SPDX-License-Identifier: Apache-2.0

package domainxml

import (
	"libvirt.org/go/libvirtxml"

	"github.com/vmlet/vmlet/pkg/vm"
)

// nics are the guest's interfaces. libvirt makes each tap, under our name and without a
// script or a bridge, and hands QEMU its descriptor; the device itself is moved into the
// sandbox's network namespace before the guest runs.
func nics(m vm.Machine, d *libvirtxml.Domain) error {
	for _, nic := range m.NICs {
		if nic.Tap == "" || nic.MAC == "" {
			return invalid("NIC %s: tap %q, MAC %q", nic.Name, nic.Tap, nic.MAC)
		}
		out := libvirtxml.DomainInterface{
			Source: &libvirtxml.DomainInterfaceSource{Ethernet: &libvirtxml.DomainInterfaceSourceEthernet{}},
			MAC:    &libvirtxml.DomainInterfaceMAC{Address: nic.MAC},
			Target: &libvirtxml.DomainInterfaceTarget{Dev: nic.Tap},
			Model:  &libvirtxml.DomainInterfaceModel{Type: "virtio"},
			Link:   &libvirtxml.DomainInterfaceLink{State: "up"},
			// No guest boots from the network: spare it the time of the option ROM.
			ROM: &libvirtxml.DomainROM{Enabled: "no"},
		}
		if nic.MTU > 0 {
			out.MTU = &libvirtxml.DomainInterfaceMTU{Size: uint(nic.MTU)}
		}
		d.Devices.Interfaces = append(d.Devices.Interfaces, out)
	}
	return nil
}
