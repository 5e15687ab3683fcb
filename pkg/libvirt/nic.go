// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	virt "libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/vmlet/vmlet/pkg/libvirt/domainxml"
	"github.com/vmlet/vmlet/pkg/vm"
)

// unplugAgain is the time between two requests to a guest that it let go of a device. QEMU forgets one after a second, and a
// guest that boots has heard none.
const unplugAgain = 2 * time.Second

// lastLook bounds the look at a device after the time to wait for it has ended.
const lastLook = 5 * time.Second

// errNICHeld is a guest that does not let go of a NIC.
var errNICHeld = fmt.Errorf("the guest does not let go of the device: %w", context.DeadlineExceeded)

// PlugNIC implements lifecycle.Hypervisor. The machine is looked at first where there is a tap of the name, which an earlier try
// has left; elsewhere only if libvirt refuses, as it does before it does anything where the machine has the NIC.
func (h *Hypervisor) PlugNIC(ctx context.Context, id string, nic vm.NIC) error {
	return h.withOn(ctx, h.starts, "plug NIC", id, func(dom *virt.Domain) error {
		if _, err := net.InterfaceByName(nic.Tap); err == nil {
			if there, err := hasNIC(dom, nic); there || err != nil {
				return err
			}
			if gone, err := strayGone(dom, nic); err != nil || !gone {
				return orStray(err) // it is not waited for here
			}
		}
		nic.Down = true // until it is wired
		err := plugNIC(dom, nic, virt.DOMAIN_DEVICE_MODIFY_LIVE)
		if err == nil {
			return nil
		}
		there, lookErr := hasNIC(dom, nic)
		if there {
			return nil
		}
		return errors.Join(lookErr, err)
	})
}

// hasNIC tells whether the machine that runs has a NIC, as far as libvirt knows.
func hasNIC(dom *virt.Domain, nic vm.NIC) (there bool, err error) {
	live, err := liveOf(dom)
	if err == nil {
		_, there = live.nicAlias(nic.Tap)
	}
	return there, err
}

// UnplugNIC implements lifecycle.Hypervisor. libvirt says by an event that the guest has let go; the machine is looked at all
// the same, since events are lost with a connection.
func (h *Hypervisor) UnplugNIC(ctx context.Context, id string, nic vm.NIC) error {
	removed, forget := h.events.removals.wait(id, domainxml.NICAlias(nic))
	defer forget()
	again := time.NewTicker(unplugAgain)
	defer again.Stop()
	for {
		gone, err := h.askToLetGo(ctx, id, nic)
		if gone || err != nil && !errdefs.IsUnavailable(err) && ctx.Err() == nil {
			return err
		}
		select {
		case <-removed:
		case <-again.C:
		case <-ctx.Done():
			return h.lastLookAt(ctx, id, nic, err)
		}
	}
}

// askToLetGo asks the guest to let go of a NIC; gone if there is no such device.
func (h *Hypervisor) askToLetGo(ctx context.Context, id string, nic vm.NIC) (gone bool, err error) {
	return call(ctx, h.starts, "unplug NIC", id, func(s *session) (bool, error) {
		return h.eachNIC(s, id, nic, strayGone, letGo)
	})
}

// lastLookAt tells, when the time is over, whether the guest has let go after all.
func (h *Hypervisor) lastLookAt(ctx context.Context, id string, nic vm.NIC, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastLook)
	defer cancel()
	gone, err := call(ctx, h.starts, "look for NIC", id, func(s *session) (bool, error) {
		return h.eachNIC(s, id, nic, isGone, leave)
	})
	switch {
	case err != nil:
		return errors.Join(err, cause)
	case gone:
		return nil
	}
	return fmt.Errorf("unplug NIC %s of sandbox %s: %w", nic.Name, id, errors.Join(errNICHeld, cause))
}

// isGone is for a NIC that libvirt does not know, where nothing is to be done.
func isGone(*virt.Domain, vm.NIC) (bool, error) { return true, nil }

// leave leaves a device alone.
func leave(*virt.Domain, string) error { return nil }

// eachNIC calls do with the alias of a NIC's device, if a machine runs that has it; gone if none does. unknown judges one that libvirt
// does not know.
func (h *Hypervisor) eachNIC(
	s *session, id string, nic vm.NIC, unknown func(*virt.Domain, vm.NIC) (bool, error), do func(dom *virt.Domain, alias string) error,
) (gone bool, err error) {
	dom, err := h.find(s, id)
	if isAbsent(err) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer free(dom)
	live, err := liveOf(dom)
	if errors.Is(err, errNotActive) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	alias, there := live.nicAlias(nic.Tap)
	if !there {
		return unknown(dom, nic)
	}
	return false, do(dom, alias)
}

// HasNIC implements lifecycle.Hypervisor.
func (h *Hypervisor) HasNIC(ctx context.Context, id string, nic vm.NIC) (bool, error) {
	return call(ctx, h.domains, "look for NIC", id, func(s *session) (bool, error) {
		gone, err := h.eachNIC(s, id, nic, isGone, leave)
		return !gone && err == nil, err
	})
}

// SetLink implements lifecycle.Hypervisor. The device mostly is as it would be made now: libvirt, which compares, takes the link state
// from that, and the machine is only read where it does not.
func (h *Hypervisor) SetLink(ctx context.Context, id string, nic vm.NIC) error {
	return h.withOn(ctx, h.starts, "set link", id, func(dom *virt.Domain) error {
		if device, err := domainxml.NIC(nic); err == nil && updateNIC(dom, device, virt.DOMAIN_DEVICE_MODIFY_LIVE) == nil {
			return nil
		}
		if err := requireActive(dom); err != nil {
			return err
		}
		there, err := nicOf(dom, 0, nic.Tap)
		if err != nil {
			return err
		}
		if there == nil {
			return fmt.Errorf("the machine has no NIC %s: %w", nic.Name, errdefs.ErrNotFound)
		}
		return updateLink(dom, there, nic, virt.DOMAIN_DEVICE_MODIFY_LIVE)
	})
}

// updateLink gives a device that is there the link state of a NIC. What else it is libvirt compares, and would refuse to change.
func updateLink(dom *virt.Domain, there *libvirtxml.DomainInterface, nic vm.NIC, flags virt.DomainDeviceModifyFlags) error {
	there.Link = domainxml.NICLink(nic)
	return updateNIC(dom, there, flags)
}

func updateNIC(dom *virt.Domain, device *libvirtxml.DomainInterface, flags virt.DomainDeviceModifyFlags) error {
	text, err := device.Marshal()
	if err != nil {
		return err
	}
	return dom.UpdateDeviceFlags(text, flags)
}

// DefineNICs implements lifecycle.Hypervisor. The rest of the definition is left alone, the addresses of other devices above
// all.
func (h *Hypervisor) DefineNICs(ctx context.Context, id string, nics []vm.NIC) error {
	return h.with(ctx, "define NICs", id, func(dom *virt.Domain) error {
		if active, err := dom.IsActive(); err != nil || active {
			return err
		}
		have, err := interfacesOf(dom, virt.DOMAIN_XML_INACTIVE)
		if err != nil {
			return err
		}
		wanted := map[string]vm.NIC{}
		for _, nic := range nics {
			wanted[nic.Tap] = nic
		}
		var stays []libvirtxml.DomainInterface
		for i := range have {
			// A NIC that was detached and attached again has the tap of the one before, and another MAC.
			if nic, is := wanted[tapOf(&have[i])]; is && isNIC(&have[i], nic) {
				stays = append(stays, have[i])
			} else if err := undefineNIC(dom, &have[i]); err != nil {
				return err
			}
		}
		for _, nic := range nics {
			if err := defineNIC(dom, stays, nic); err != nil {
				return err
			}
		}
		return nil
	})
}

func undefineNIC(dom *virt.Domain, there *libvirtxml.DomainInterface) error {
	text, err := there.Marshal()
	if err != nil {
		return err
	}
	return dom.DetachDeviceFlags(text, virt.DOMAIN_DEVICE_MODIFY_CONFIG)
}

func defineNIC(dom *virt.Domain, have []libvirtxml.DomainInterface, nic vm.NIC) error {
	for i := range have {
		if tapOf(&have[i]) != nic.Tap {
			continue
		}
		if isDown(&have[i]) == nic.Down {
			return nil
		}
		return updateLink(dom, &have[i], nic, virt.DOMAIN_DEVICE_MODIFY_CONFIG)
	}
	return plugNIC(dom, nic, virt.DOMAIN_DEVICE_MODIFY_CONFIG)
}

// isNIC tells whether a device is that of a NIC, whatever its link state.
func isNIC(i *libvirtxml.DomainInterface, nic vm.NIC) bool {
	mtu := uint(0)
	if i.MTU != nil {
		mtu = i.MTU.Size
	}
	return tapOf(i) == nic.Tap && i.MAC != nil && strings.EqualFold(i.MAC.Address, nic.MAC) && mtu == uint(max(nic.MTU, 0))
}

func isDown(i *libvirtxml.DomainInterface) bool { return i.Link != nil && i.Link.State == "down" }

func plugNIC(dom *virt.Domain, nic vm.NIC, where virt.DomainDeviceModifyFlags) error {
	device, err := domainxml.NIC(nic)
	if err != nil {
		return err
	}
	return plug(dom, device, where)
}

// nicOf finds the device of a tap; nil if there is none.
func nicOf(dom *virt.Domain, flags virt.DomainXMLFlags, tap string) (*libvirtxml.DomainInterface, error) {
	all, err := interfacesOf(dom, flags)
	for i := range all {
		if tapOf(&all[i]) == tap {
			return &all[i], nil
		}
	}
	return nil, err
}

func tapOf(i *libvirtxml.DomainInterface) string {
	if i.Target == nil {
		return ""
	}
	return i.Target.Dev
}

func interfacesOf(dom *virt.Domain, flags virt.DomainXMLFlags) ([]libvirtxml.DomainInterface, error) {
	devices, err := devicesOf(dom, flags)
	if err != nil {
		return nil, err
	}
	return devices.Interfaces, nil
}
