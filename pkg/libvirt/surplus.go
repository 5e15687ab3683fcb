// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"context"
	"strings"

	virt "libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/vmlet/vmlet/pkg/libvirt/domainxml"
	"github.com/vmlet/vmlet/pkg/vm"
)

// surplusPrefix begins the taps of NICs that a machine has from a snapshot's memory and that are on record no more: by now
// another NIC may have the name of the tap. It is as long as what it takes the place of, so that the name fits.
const surplusPrefix = "vmx"

// takeNICs gives the NICs of a saved machine that are not on record any more another tap, so that the rest can have theirs, and
// tells which are. What the guest knows of a NIC, its carrier included, stays as it was saved: QEMU takes that from the memory.
func takeNICs(saved *libvirtxml.Domain, nics []vm.NIC) (has vm.Awoken) {
	for i := range saved.Devices.Interfaces {
		was := &saved.Devices.Interfaces[i]
		if nic, ok := nicOnRecord(was, nics); ok {
			nic.Down = isDown(was)
			has.NICs = append(has.NICs, nic)
			continue
		}
		has.Surplus = true
		tap := tapOf(was)
		tap = surplusPrefix + tap[min(len(surplusPrefix), len(tap)):]
		was.Target = &libvirtxml.DomainInterfaceTarget{Dev: tap}
		was.Alias = &libvirtxml.DomainAlias{Name: domainxml.NICAlias(vm.NIC{Tap: tap})}
	}
	return has
}

// nicOnRecord finds the NIC that a device is: another one of its tap has another MAC.
func nicOnRecord(device *libvirtxml.DomainInterface, nics []vm.NIC) (vm.NIC, bool) {
	for _, nic := range nics {
		if nic.Tap == tapOf(device) && device.MAC != nil && strings.EqualFold(nic.MAC, device.MAC.Address) {
			return nic, true
		}
	}
	return vm.NIC{}, false
}

// unlinkSurplus takes the carrier of the NICs that are not on record, before the guest uses them.
func unlinkSurplus(dom *virt.Domain, nics []vm.NIC) error {
	all, err := interfacesOf(dom, 0)
	if err != nil {
		return err
	}
	for i := range all {
		if _, ok := nicOnRecord(&all[i], nics); ok || isDown(&all[i]) {
			continue
		}
		if err := updateLink(dom, &all[i], vm.NIC{Down: true}, virt.DOMAIN_DEVICE_MODIFY_LIVE); err != nil {
			return err
		}
	}
	return nil
}

// UnplugSurplus implements lifecycle.Hypervisor.
func (h *Hypervisor) UnplugSurplus(ctx context.Context, id string, nics []vm.NIC) error {
	surplus, err := call(ctx, h.starts, "look for surplus NICs", id, func(s *session) (surplus []vm.NIC, err error) {
		dom, err := h.find(s, id)
		if isAbsent(err) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		defer free(dom)
		active, err := dom.IsActive()
		if err != nil || !active {
			return nil, err
		}
		all, err := interfacesOf(dom, 0)
		for i := range all {
			if _, ok := nicOnRecord(&all[i], nics); !ok {
				surplus = append(surplus, vm.NIC{Name: tapOf(&all[i]), Tap: tapOf(&all[i])})
			}
		}
		return surplus, err
	})
	if err != nil {
		return err
	}
	for _, nic := range surplus {
		if err := h.UnplugNIC(ctx, id, nic); err != nil {
			return err
		}
	}
	return nil
}
