// SPDX-License-Identifier: Apache-2.0

package domainxml

import (
	"libvirt.org/go/libvirtxml"

	"github.com/vmlet/vmlet/pkg/vm"
)

// AgentPort is the name of the virtio-serial port that qemu-guest-agent opens in the guest.
const AgentPort = "org.qemu.guest_agent.0"

// agentChannel is the port of qemu-guest-agent. Its socket on the host is libvirt's own,
// in libvirt's folder: libvirt speaks the protocol, we speak to libvirt.
func agentChannel(m vm.Machine, d *libvirtxml.Domain) error {
	if !m.AgentChannel {
		return nil
	}
	d.Devices.Channels = []libvirtxml.DomainChannel{{
		Source: &libvirtxml.DomainChardevSource{UNIX: &libvirtxml.DomainChardevSourceUNIX{Mode: "bind"}},
		Target: &libvirtxml.DomainChannelTarget{VirtIO: &libvirtxml.DomainChannelTargetVirtIO{Name: AgentPort}},
	}}
	return nil
}
