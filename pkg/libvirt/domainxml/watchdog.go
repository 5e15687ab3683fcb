// SPDX-License-Identifier: Apache-2.0

package domainxml

import (
	"libvirt.org/go/libvirtxml"

	"github.com/vmlet/vmlet/pkg/vm"
)

// watchdog is the timer that acts on a guest which stopped feeding it. Guests without a
// driver never start it.
func watchdog(m vm.Machine, d *libvirtxml.Domain) error {
	if m.Watchdog.Model == "" {
		return nil
	}
	d.Devices.Watchdogs = []libvirtxml.DomainWatchdog{{Model: m.Watchdog.Model, Action: m.Watchdog.Action}}
	return nil
}
