// SPDX-License-Identifier: Apache-2.0

package domainxml

import (
	"libvirt.org/go/libvirtxml"

	"github.com/vmlet/vmlet/pkg/vm"
)

// vnc is a VNC server that listens nowhere: neither on TCP nor on a unix socket. libvirt hands it the connections of
// clients one by one (virDomainOpenGraphicsFD), so nothing on the host leads to it but libvirt, and nothing is left of it.
func vnc(m vm.Machine, d *libvirtxml.Domain) error {
	if !m.VNC {
		return nil
	}
	if m.Video != vm.VideoVGA {
		return invalid("a VNC server without a video device has nothing to show")
	}
	d.Devices.Graphics = []libvirtxml.DomainGraphic{{VNC: &libvirtxml.DomainGraphicVNC{
		Listeners: []libvirtxml.DomainGraphicListener{{}}, // of type none
	}}}
	return nil
}
