// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"encoding/xml"
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

// briefXML is the little that is read of a domain's XML where time counts: libvirtxml reads all of it, and takes more than twice as
// long. It also knows a memory device's <current>, which libvirtxml does not.
type briefXML struct {
	Type string `xml:"type,attr"`
	// ID is libvirt's number for a domain that runs, empty for another.
	ID   string `xml:"id,attr"`
	VCPU struct {
		Current int `xml:"current,attr"`
		Value   int `xml:",chardata"`
	} `xml:"vcpu"`
	Memory []struct {
		Model     string  `xml:"model,attr"`
		Requested kibXML  `xml:"target>requested"`
		Current   *kibXML `xml:"target>current"`
	} `xml:"devices>memory"`
	Interfaces []struct {
		Target struct {
			Dev string `xml:"dev,attr"`
		} `xml:"target"`
		Alias struct {
			Name string `xml:"name,attr"`
		} `xml:"alias"`
	} `xml:"devices>interface"`
	Channels []struct {
		Target struct {
			Name  string `xml:"name,attr"`
			State string `xml:"state,attr"`
		} `xml:"target"`
	} `xml:"devices>channel"`
}

func parseBrief(text string) (d briefXML, err error) {
	if err := xml.Unmarshal([]byte(text), &d); err != nil {
		return d, fmt.Errorf("parse the domain's XML: %w", err)
	}
	return d, nil
}

// briefOf reads a domain's XML as domainOf does.
func briefOf(dom *virt.Domain, flags virt.DomainXMLFlags) (briefXML, error) {
	text, err := dom.GetXMLDesc(flags)
	if err != nil {
		return briefXML{}, fmt.Errorf("read the domain's XML: %w", err)
	}
	return parseBrief(text)
}

// liveOf reads the XML of the machine that runs; errNotActive if none does.
func liveOf(dom *virt.Domain) (briefXML, error) {
	d, err := briefOf(dom, 0)
	if err == nil && d.ID == "" {
		err = errNotActive
	}
	return d, err
}

// nicAlias is the alias of the NIC that has a tap.
func (d briefXML) nicAlias(tap string) (alias string, there bool) {
	for _, i := range d.Interfaces {
		if i.Target.Dev == tap {
			return i.Alias.Name, true
		}
	}
	return "", false
}
