// SPDX-License-Identifier: Apache-2.0

package domainxml

import (
	"strings"

	"libvirt.org/go/libvirtxml"

	"github.com/vmlet/vmlet/pkg/vm"
)

// identity says which machine this is: to libvirt, to people, and by its mark to vmlet.
func identity(m vm.Machine, d *libvirtxml.Domain) error {
	mark, err := Mark{SandboxID: m.SandboxID, Owner: m.Owner}.marshal()
	if err != nil {
		return err
	}
	d.Name, d.UUID = m.Name, m.UUID
	// libvirt refuses a title with a line break.
	d.Title = strings.Join(strings.Fields(m.Title), " ")
	d.Description = m.Description
	d.Metadata = &libvirtxml.DomainMetadata{XML: mark}
	return nil
}
