// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"fmt"

	virt "libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"
)

// domainOf reads a domain's XML: of the machine that runs, or with virt.DOMAIN_XML_INACTIVE of its definition. Its devices
// are never nil.
func domainOf(dom *virt.Domain, flags virt.DomainXMLFlags) (*libvirtxml.Domain, error) {
	text, err := dom.GetXMLDesc(flags)
	if err != nil {
		return nil, fmt.Errorf("read the domain's XML: %w", err)
	}
	var d libvirtxml.Domain
	if err := d.Unmarshal(text); err != nil {
		return nil, fmt.Errorf("parse the domain's XML: %w", err)
	}
	if d.Devices == nil {
		d.Devices = &libvirtxml.DomainDeviceList{}
	}
	return &d, nil
}

// redefine gives a domain a definition that was read and changed.
func redefine(s *session, d *libvirtxml.Domain) error {
	text, err := d.Marshal()
	if err != nil {
		return err
	}
	dom, err := s.DomainDefineXML(text)
	if err != nil {
		return err
	}
	free(dom)
	return nil
}

// devicesOf are the devices of a machine, or of its definition.
func devicesOf(dom *virt.Domain, flags virt.DomainXMLFlags) (*libvirtxml.DomainDeviceList, error) {
	d, err := domainOf(dom, flags)
	if err != nil {
		return nil, err
	}
	return d.Devices, nil
}
