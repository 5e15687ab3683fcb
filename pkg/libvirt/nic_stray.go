// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"fmt"
	"net"

	"github.com/containerd/errdefs"
	virt "libvirt.org/go/libvirt"

	"github.com/vmlet/vmlet/pkg/libvirt/domainxml"
	"github.com/vmlet/vmlet/pkg/vm"
)

// errStray is a device that the guest still has of a try that libvirtd died in.
var errStray = fmt.Errorf("the guest still has the device of an earlier try, which libvirt knows nothing of; try again: %w", errdefs.ErrUnavailable)

// strayGone takes from QEMU what a libvirtd that died while it plugged a NIC has left there: the tap, and maybe the device. While QEMU
// has the tap, no other can be made of its name. gone if nothing is left; else the guest was asked to let go of the device. The NIC
// must be none that libvirt knows: the tap of such a one has left the host's namespace, or is about to.
func strayGone(dom *virt.Domain, nic vm.NIC) (gone bool, err error) {
	if _, err := net.InterfaceByName(nic.Tap); err != nil {
		return true, nil //nolint:nilerr // there is no such tap
	}
	alias := domainxml.NICAlias(nic)
	if gone, err := dropDevice(dom, alias); err != nil || !gone {
		return false, err
	}
	answer, err := askMonitor(dom, "netdev_del", map[string]any{"id": "host" + alias}, nil)
	if err == nil && answer.Class != "" {
		err = fmt.Errorf("QEMU has the tap %s and does not give it back: %s: %w", nic.Tap, answer.Desc, errdefs.ErrUnavailable)
	}
	return err == nil, err
}
