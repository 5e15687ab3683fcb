// SPDX-License-Identifier: Apache-2.0

package domainxml

import (
	"libvirt.org/go/libvirtxml"

	"github.com/vmlet/vmlet/pkg/vm"
)

// panicDevice lets the guest's kernel tell of its panic. Of libvirt's models only isa
// (pvpanic) has a driver in the guests we run.
func panicDevice(_ vm.Machine, d *libvirtxml.Domain) error {
	d.Devices.Panics = []libvirtxml.DomainPanic{{Model: "isa"}}
	return nil
}
