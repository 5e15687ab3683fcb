// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	virt "libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"
)

// compareDomains starts a pod on each side, which also warms up what is cached, and fails
// if libvirt has been told to make different machines of them.
func compareDomains(t *testing.T, f *floor, v vmlet) {
	t.Helper()
	ctx := t.Context()
	p, err := v.start(ctx, "warm-up")
	must(t, err)
	ours, err := f.libvirt.LookupDomainByUUIDString(p.uuid())
	must(t, err)
	bare, err := f.start(ctx)
	must(t, err)
	diff := cmp.Diff(commonPart(t, bare.domain), commonPart(t, ours))
	must(t, ours.Free())
	must(t, bare.domain.Destroy())
	must(t, f.remove(ctx, bare))
	must(t, v.remove(ctx, p))
	if diff != "" {
		t.Fatalf("the floor's domain (-) is not vmlet's (+):\n%s", diff)
	}
	f.steps.reset()
	v.steps.reset()
}

// commonPart is a domain's definition without what makes it this one.
func commonPart(t *testing.T, d *virt.Domain) string {
	t.Helper()
	text, err := d.GetXMLDesc(virt.DOMAIN_XML_INACTIVE)
	must(t, err)
	var def libvirtxml.Domain
	must(t, def.Unmarshal(text))
	def.Name, def.UUID, def.Title, def.Description, def.Metadata = "", "", "", "", nil
	for i := range def.Devices.Disks {
		disk := &def.Devices.Disks[i]
		if disk.Source != nil && disk.Source.File != nil {
			disk.Source.File.File = ""
		}
	}
	for i := range def.Devices.Interfaces {
		def.Devices.Interfaces[i].MAC, def.Devices.Interfaces[i].Target = nil, nil
	}
	for i := range def.Devices.Serials {
		if log := def.Devices.Serials[i].Log; log != nil {
			log.File = ""
		}
	}
	for i := range def.Devices.Consoles {
		if log := def.Devices.Consoles[i].Log; log != nil {
			log.File = ""
		}
	}
	text, err = def.Marshal()
	must(t, err)
	return text
}
