// SPDX-License-Identifier: Apache-2.0

package domainxml

import (
	"strings"

	"libvirt.org/go/libvirtxml"

	"github.com/vmlet/vmlet/pkg/vm"
)

// nicAlias begins the names of NICs to libvirt, which keeps names that begin so as they are.
const nicAlias = "ua-nic-"

// NICAlias is what libvirt calls a NIC, in events above all.
func NICAlias(nic vm.NIC) string { return nicAlias + nic.Tap }

// TapOfAlias is the tap of the NIC that libvirt calls so; false for what is no NIC of ours.
func TapOfAlias(alias string) (tap string, is bool) { return strings.CutPrefix(alias, nicAlias) }

// nics are the guest's interfaces.
func nics(m vm.Machine, d *libvirtxml.Domain) error {
	for _, nic := range m.NICs {
		device, err := NIC(nic)
		if err != nil {
			return err
		}
		d.Devices.Interfaces = append(d.Devices.Interfaces, *device)
	}
	return nil
}

// NIC is one interface of the guest. libvirt makes its tap, under our name and without a
// script or a bridge, and hands QEMU its descriptor; the device itself is moved into the
// sandbox's network namespace before the guest uses it.
func NIC(nic vm.NIC) (*libvirtxml.DomainInterface, error) {
	if nic.Tap == "" || nic.MAC == "" {
		return nil, invalid("NIC %s: tap %q, MAC %q", nic.Name, nic.Tap, nic.MAC)
	}
	device := &libvirtxml.DomainInterface{
		Source: &libvirtxml.DomainInterfaceSource{Ethernet: &libvirtxml.DomainInterfaceSourceEthernet{}},
		MAC:    &libvirtxml.DomainInterfaceMAC{Address: nic.MAC},
		Target: &libvirtxml.DomainInterfaceTarget{Dev: nic.Tap},
		Model:  &libvirtxml.DomainInterfaceModel{Type: "virtio"},
		Link:   NICLink(nic),
		Alias:  &libvirtxml.DomainAlias{Name: NICAlias(nic)},
		// No guest boots from the network: spare it the time of the option ROM.
		ROM: &libvirtxml.DomainROM{Enabled: "no"},
	}
	if nic.MTU > 0 {
		device.MTU = &libvirtxml.DomainInterfaceMTU{Size: uint(nic.MTU)}
	}
	return device, nil
}

// NICLink is whether the guest sees a carrier.
func NICLink(nic vm.NIC) *libvirtxml.DomainInterfaceLink {
	if nic.Down {
		return &libvirtxml.DomainInterfaceLink{State: "down"}
	}
	return &libvirtxml.DomainInterfaceLink{State: "up"}
}
