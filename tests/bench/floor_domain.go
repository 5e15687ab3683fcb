// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"slices"

	virt "libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"
)

// copyDomain takes a domain of vmlet's as the model of the floor's, so that both are the
// same machine whatever vmlet makes of a pod.
func (f *floor) copyDomain(uuid string) error {
	d, err := f.libvirt.LookupDomainByUUIDString(uuid)
	if err != nil {
		return err
	}
	defer d.Free() //nolint:errcheck // a domain always can be
	text, err := d.GetXMLDesc(virt.DOMAIN_XML_INACTIVE)
	if err != nil {
		return err
	}
	if err := f.model.Unmarshal(text); err != nil {
		return err
	}
	// Without vmlet's mark the daemon leaves the copies alone.
	f.model.Metadata = nil
	devices := f.model.Devices
	if len(devices.Disks) != 2 || len(devices.Interfaces) != 1 || len(devices.Serials) != 1 || len(devices.Consoles) != 1 {
		return fmt.Errorf("vmlet's domain is not as the floor knows it: %s", text)
	}
	return nil
}

// domainXML is the model with what makes it this pod.
func (f *floor) domainXML(p *floorPod) (string, error) {
	def, devices := f.model, *f.model.Devices
	def.Devices = &devices
	def.Name, def.UUID = p.name(), p.uuid()
	devices.Disks = slices.Clone(devices.Disks)
	for i, path := range []string{f.root(p.id), f.paths.Seed(p.id)} {
		source := *devices.Disks[i].Source
		source.File = &libvirtxml.DomainDiskSourceFile{File: path}
		devices.Disks[i].Source = &source
	}
	devices.Interfaces = slices.Clone(devices.Interfaces)
	devices.Interfaces[0].MAC = &libvirtxml.DomainInterfaceMAC{Address: p.nic.MAC}
	devices.Interfaces[0].Target = &libvirtxml.DomainInterfaceTarget{Dev: p.nic.Tap}
	devices.Serials, devices.Consoles = slices.Clone(devices.Serials), slices.Clone(devices.Consoles)
	log := *devices.Serials[0].Log
	log.File = f.console(p.id)
	devices.Serials[0].Log, devices.Consoles[0].Log = &log, &log
	return def.Marshal()
}
