// SPDX-License-Identifier: Apache-2.0

package domainxml

import (
	"path/filepath"

	"libvirt.org/go/libvirtxml"

	"github.com/vmlet/vmlet/pkg/vm"
)

// The names of the virtio-serial ports, as the guest finds them in /dev/virtio-ports.
const (
	// QGAPort is opened by qemu-guest-agent.
	QGAPort = "org.qemu.guest_agent.0"
	// AgentPort and OutputPort are opened by vmlet-agent: for what it is asked, and for what
	// the container's command prints.
	AgentPort  = "org.vmlet.agent.0"
	OutputPort = "org.vmlet.output.0"
)

// longestSocket is what sun_path of a unix socket address holds without its final zero
// (unix(7)).
const longestSocket = 107

// channels are the ports of the guest's agents, all on one virtio-serial controller, which
// libvirt adds.
func channels(m vm.Machine, d *libvirtxml.Domain) error {
	if m.AgentChannel {
		// Its socket is libvirt's own, in libvirt's folder: libvirt speaks the protocol of
		// qemu-guest-agent, we speak to libvirt.
		add(d, QGAPort, &libvirtxml.DomainChardevSource{UNIX: &libvirtxml.DomainChardevSourceUNIX{Mode: "bind"}})
	}
	if m.AgentSocket != "" {
		if !filepath.IsAbs(m.AgentSocket) || len(m.AgentSocket) > longestSocket {
			return invalid("agent socket %q: its path is not absolute or longer than %d bytes", m.AgentSocket, longestSocket)
		}
		add(d, AgentPort, &libvirtxml.DomainChardevSource{
			UNIX: &libvirtxml.DomainChardevSourceUNIX{Mode: "bind", Path: m.AgentSocket},
		})
	}
	if m.OutputSpool != "" {
		if !filepath.IsAbs(m.OutputSpool) {
			return invalid("output spool %q: its path is not absolute", m.OutputSpool)
		}
		// A file takes what comes, whether or not anybody reads it: a command is never held
		// up by us, and its output outlives us.
		add(d, OutputPort, &libvirtxml.DomainChardevSource{
			File: &libvirtxml.DomainChardevSourceFile{Path: m.OutputSpool, Append: "on"},
		})
	}
	return nil
}

func add(d *libvirtxml.Domain, port string, source *libvirtxml.DomainChardevSource) {
	d.Devices.Channels = append(d.Devices.Channels, libvirtxml.DomainChannel{
		Source: source,
		Target: &libvirtxml.DomainChannelTarget{VirtIO: &libvirtxml.DomainChannelTargetVirtIO{Name: port}},
	})
}
