// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	virt "libvirt.org/go/libvirt"
)

// What libvirt 9.0 and QEMU 7.2 say, with codes that say nothing.
const (
	saysNoPort     = "No more available PCI slots"
	saysUnplugging = "already in the process of unplug"
	saysNoDevice   = "no device found with alias"
)

// plug adds a device to the machine, or to the definition.
func plug(dom *virt.Domain, device interface{ Marshal() (string, error) }, where virt.DomainDeviceModifyFlags) error {
	text, err := device.Marshal()
	if err != nil {
		return err
	}
	err = dom.AttachDeviceFlags(text, where)
	if err != nil && strings.Contains(plainText(err), saysNoPort) {
		return fmt.Errorf("all PCIe ports of the machine are taken, and a running one gets no more; detach a NIC or a disk, or restart the container, whose next machine has free ones: %w",
			errdefs.ErrResourceExhausted)
	}
	return err
}

// letGo asks the guest to let go of a device. libvirt says by an event that it has.
func letGo(dom *virt.Domain, alias string) error {
	err := dom.DetachDeviceAlias(alias, virt.DOMAIN_DEVICE_MODIFY_LIVE)
	switch {
	case err == nil:
		return nil
	case strings.Contains(plainText(err), saysUnplugging):
		return nil // QEMU still has the last request, and keeps it
	case strings.Contains(plainText(err), saysNoDevice):
		return nil // it has gone since it was looked at, by an earlier request
	}
	return err
}
