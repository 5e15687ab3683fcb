// SPDX-License-Identifier: Apache-2.0

package domainxml

import (
	"libvirt.org/go/libvirtxml"

	"github.com/vmlet/vmlet/pkg/vm"
)

// videoMemoryKiB is QEMU's own default, said here so that a machine stays the same: enough for 2560x1600. What is not
// drawn on takes no memory of the host.
const videoMemoryKiB = 16 << 10

// video is the screen. Without one that has to be said, or libvirt adds its own choice to a machine with VNC.
func video(m vm.Machine, d *libvirtxml.Domain) error {
	model := libvirtxml.DomainVideoModel{Type: string(vm.VideoNone)}
	switch m.Video {
	case vm.VideoNone, "":
	case vm.VideoVGA:
		model = libvirtxml.DomainVideoModel{Type: string(vm.VideoVGA), VRam: videoMemoryKiB, Heads: 1, Primary: "yes"}
	default:
		return invalid("video device %q is neither %q nor %q", m.Video, vm.VideoNone, vm.VideoVGA)
	}
	d.Devices.Videos = []libvirtxml.DomainVideo{{Model: model}}
	return nil
}
