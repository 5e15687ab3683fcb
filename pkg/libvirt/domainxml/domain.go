// SPDX-License-Identifier: Apache-2.0

// Package domainxml turns a vm.Machine into libvirt's domain XML.
//
// It is pure: the same machine gives the same XML, nothing is read from the host. Each
// device has a file of its own, with one configurator that adds it to the domain. What
// an element means is told by https://libvirt.org/formatdomain.html; the comments here
// tell why it is there.
package domainxml

import (
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"libvirt.org/go/libvirtxml"

	"github.com/vmlet/vmlet/pkg/vm"
)

// configurator adds one part of a machine to a domain. Each touches only its own
// elements, so their order decides nothing but the order of devices of one kind.
type configurator func(m vm.Machine, d *libvirtxml.Domain) error

var configurators = []configurator{
	identity,
	platform,
	cpu,
	memory,
	memoryHeadroom,
	tune,
	controllers,
	disks,
	nics,
	console,
	channels,
	rng,
	watchdog,
	panicDevice,
	share,
	balloon,
	video,
	vnc,
}

// Domain returns the domain that m describes, or InvalidArgument for a machine that
// libvirt could not run.
func Domain(m vm.Machine) (*libvirtxml.Domain, error) {
	if err := validate(m); err != nil {
		return nil, fmt.Errorf("machine of sandbox %s: %w", m.SandboxID, err)
	}
	d := &libvirtxml.Domain{Devices: &libvirtxml.DomainDeviceList{}}
	for _, configure := range configurators {
		if err := configure(m, d); err != nil {
			return nil, fmt.Errorf("machine of sandbox %s: %w", m.SandboxID, err)
		}
	}
	return d, nil
}

// validate checks what no single device owns.
func validate(m vm.Machine) error {
	for _, required := range []struct{ field, value string }{
		{"sandbox ID", m.SandboxID}, {"UUID", m.UUID}, {"name", m.Name}, {"owner", m.Owner},
	} {
		if required.value == "" {
			return invalid("it has no %s", required.field)
		}
	}
	if m.MachineType != "q35" && !strings.HasPrefix(m.MachineType, "pc-q35-") {
		return invalid("machine type %q is not a q35: its PCIe ports are what devices are plugged into", m.MachineType)
	}
	return nil
}

func invalid(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, errdefs.ErrInvalidArgument)...)
}
