// SPDX-License-Identifier: Apache-2.0

package domainxml

import (
	"path/filepath"

	"libvirt.org/go/libvirtxml"

	"github.com/vmlet/vmlet/pkg/vm"
)

const (
	// ShareTag is what the guest mounts the share by (at most 36 bytes).
	ShareTag = "vmlet"
	// ShareAlias names the device to libvirt, which keeps names that begin so as they are.
	ShareAlias = "ua-share"
)

// shareQueue is the length of the request queue: libvirt's page on virtiofs advises 1024.
const shareQueue = 1024

// share is the sandbox's virtiofs device. virtiofsd maps the guest's memory, so that must
// be shared: as memfd, which needs no folder, and in the words of a NUMA node, since after
// a restart of libvirtd 9.0 plugs a share into a running guest only where a node says that
// its memory is shared. It comes after cpu, whose element holds the nodes.
func share(m vm.Machine, d *libvirtxml.Domain) error {
	if m.Share == "" {
		return nil
	}
	if !filepath.IsAbs(m.Share) {
		return invalid("share %q: its path is not absolute", m.Share)
	}
	d.MemoryBacking = &libvirtxml.DomainMemoryBacking{
		MemorySource: &libvirtxml.DomainMemorySource{Type: "memfd"},
		MemoryAccess: &libvirtxml.DomainMemoryAccess{Mode: "shared"},
	}
	node(m, d).MemAccess = "shared"
	d.Devices.Filesystems = []libvirtxml.DomainFilesystem{
		shareDevice(&libvirtxml.DomainFilesystemSource{Mount: &libvirtxml.DomainFilesystemSourceMount{Dir: m.Share}}),
	}
	return nil
}

// SharePlug is the share as it is plugged into a running guest, whose virtiofsd listens at
// a socket.
func SharePlug(socket string) *libvirtxml.DomainFilesystem {
	f := shareDevice(&libvirtxml.DomainFilesystemSource{Mount: &libvirtxml.DomainFilesystemSourceMount{Socket: socket}})
	f.AccessMode = ""
	return &f
}

func shareDevice(source *libvirtxml.DomainFilesystemSource) libvirtxml.DomainFilesystem {
	return libvirtxml.DomainFilesystem{
		AccessMode: "passthrough",
		Driver:     &libvirtxml.DomainFilesystemDriver{Type: "virtiofs", Queue: shareQueue},
		Source:     source,
		Target:     &libvirtxml.DomainFilesystemTarget{Dir: ShareTag},
		Alias:      &libvirtxml.DomainAlias{Name: ShareAlias},
	}
}
