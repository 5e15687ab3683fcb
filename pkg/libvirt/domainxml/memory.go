// SPDX-License-Identifier: Apache-2.0

package domainxml

import (
	"libvirt.org/go/libvirtxml"

	"github.com/vmlet/vmlet/pkg/vm"
)

// memory gives the guest its RAM. It is rounded down to KiB, libvirt's unit: a guest must
// not get more than what was reckoned against the pod's limit.
func memory(m vm.Machine, d *libvirtxml.Domain) error {
	kib := m.Memory / vm.KiB
	if kib < 1 {
		return invalid("%d bytes of memory", m.Memory)
	}
	d.Memory = &libvirtxml.DomainMemory{Value: uint(kib), Unit: "KiB"}
	return nil
}
