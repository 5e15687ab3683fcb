// SPDX-License-Identifier: Apache-2.0

package domainxml

import (
	"path/filepath"

	"libvirt.org/go/libvirtxml"

	"github.com/vmlet/vmlet/pkg/vm"
)

// console is the serial port. QEMU appends all output to the spool, whether or not anyone
// is attached; with stdio_handler = "file" in qemu.conf it writes the file itself. The
// port is a pty, since libvirt 9.0 opens nothing else for virDomainOpenConsole and virsh
// console, and since it needs no socket path, which could be too long.
func console(m vm.Machine, d *libvirtxml.Domain) error {
	if !filepath.IsAbs(m.ConsoleSpool) {
		return invalid("console spool %q: its path is not absolute", m.ConsoleSpool)
	}
	d.Devices.Serials = []libvirtxml.DomainSerial{{
		Source: &libvirtxml.DomainChardevSource{Pty: &libvirtxml.DomainChardevSourcePty{}},
		Target: &libvirtxml.DomainSerialTarget{Type: "isa-serial", Port: new(uint(0))},
		Log:    &libvirtxml.DomainChardevLog{File: m.ConsoleSpool, Append: "on"},
	}}
	return nil
}
