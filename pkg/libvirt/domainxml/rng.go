// SPDX-License-Identifier: Apache-2.0

package domainxml

import (
	"libvirt.org/go/libvirtxml"

	"github.com/vmlet/vmlet/pkg/vm"
)

// rng feeds the guest's entropy pool, so that a first boot does not wait for it.
// /dev/urandom never blocks, hence cannot be drained by one guest for all others.
func rng(m vm.Machine, d *libvirtxml.Domain) error {
	if !m.RNG {
		return nil
	}
	d.Devices.RNGs = []libvirtxml.DomainRNG{{
		Model:   "virtio",
		Backend: &libvirtxml.DomainRNGBackend{Random: &libvirtxml.DomainRNGBackendRandom{Device: "/dev/urandom"}},
	}}
	return nil
}
