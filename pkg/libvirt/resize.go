// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	virt "libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/vmlet/vmlet/pkg/libvirt/domainxml"
	"github.com/vmlet/vmlet/pkg/vm"
)

// errNoHeadroom is a machine without a device for more memory.
var errNoHeadroom = fmt.Errorf("the machine has no %s device: %w", domainxml.VirtioMem, errdefs.ErrFailedPrecondition)

// LiveSize implements lifecycle.Hypervisor.
func (h *Hypervisor) LiveSize(ctx context.Context, id string) (vm.LiveSize, error) {
	return call(ctx, h.domains, "look at the size", id, func(s *session) (vm.LiveSize, error) {
		dom, err := h.find(s, id)
		if err != nil {
			return vm.LiveSize{}, err
		}
		defer free(dom)
		return sizeOf(dom)
	})
}

func sizeOf(dom *virt.Domain) (vm.LiveSize, error) {
	live, err := liveOf(dom)
	if err != nil {
		return vm.LiveSize{}, err
	}
	return live.size()
}

// kibXML is a size as libvirt writes it.
type kibXML struct {
	Unit  string `xml:"unit,attr"`
	Value int64  `xml:",chardata"`
}

func (k kibXML) bytes() (int64, error) {
	if k.Unit != "KiB" {
		return 0, fmt.Errorf("libvirt says a size in %q, not in KiB", k.Unit)
	}
	return k.Value * vm.KiB, nil
}

// size is what the domain has, of a definition without what is plugged.
func (d briefXML) size() (size vm.LiveSize, err error) {
	if size.VCPUs = d.VCPU.Current; size.VCPUs == 0 {
		size.VCPUs = d.VCPU.Value
	}
	for _, m := range d.Memory {
		if m.Model != domainxml.VirtioMem {
			continue
		}
		if size.Requested, err = m.Requested.bytes(); err != nil || m.Current == nil {
			return size, err
		}
		size.Plugged, err = m.Current.bytes()
		return size, err
	}
	return size, nil
}

// RequestMemory implements lifecycle.Hypervisor.
func (h *Hypervisor) RequestMemory(ctx context.Context, id string, plugged int64) error {
	return h.withOn(ctx, h.starts, "ask for memory", id, func(dom *virt.Domain) error {
		if err := requireActive(dom); err != nil {
			return err
		}
		d, err := devicesOf(dom, 0)
		if err != nil {
			return err
		}
		device := headroomOf(d)
		if device == nil {
			return errNoHeadroom
		}
		if err := request(device, plugged); err != nil {
			return err
		}
		text, err := device.Marshal()
		if err != nil {
			return err
		}
		return dom.UpdateDeviceFlags(text, virt.DOMAIN_DEVICE_MODIFY_LIVE)
	})
}

// DefineSize implements lifecycle.Hypervisor.
func (h *Hypervisor) DefineSize(ctx context.Context, id string, vcpus int, plugged int64) error {
	return run(ctx, h.domains, "define the size", id, func(s *session) error {
		dom, err := h.find(s, id)
		if err != nil {
			return err
		}
		defer free(dom)
		// It mostly is so: AddVCPUs has defined what it added.
		brief, err := briefOf(dom, virt.DOMAIN_XML_INACTIVE)
		if err != nil {
			return err
		}
		if size, err := brief.size(); err != nil || size.VCPUs == vcpus && size.Requested == plugged {
			return err
		}
		d, err := domainOf(dom, virt.DOMAIN_XML_INACTIVE|virt.DOMAIN_XML_SECURE)
		if err != nil {
			return err
		}
		if err := resize(d, vcpus, plugged); err != nil {
			return err
		}
		return redefine(s, d)
	})
}

// resize gives a definition another size.
func resize(d *libvirtxml.Domain, vcpus int, plugged int64) error {
	if d.VCPU == nil || vcpus > int(d.VCPU.Value) {
		return fmt.Errorf("the definition has no places for %d CPUs: %w", vcpus, errdefs.ErrFailedPrecondition)
	}
	if d.VCPU.Current = uint(vcpus); d.VCPU.Current == d.VCPU.Value {
		d.VCPU.Current = 0
	}
	device := headroomOf(d.Devices)
	switch {
	case device != nil:
		return request(device, plugged)
	case plugged > 0:
		return errNoHeadroom
	}
	return nil
}

func headroomOf(d *libvirtxml.DomainDeviceList) *libvirtxml.DomainMemorydev {
	for i := range d.Memorydevs {
		if d.Memorydevs[i].Model == domainxml.VirtioMem && d.Memorydevs[i].Target != nil {
			return &d.Memorydevs[i]
		}
	}
	return nil
}

// request writes into a device what the guest is to have of it.
func request(device *libvirtxml.DomainMemorydev, plugged int64) error {
	if most := device.Target.Size; most == nil || most.Unit != "KiB" || plugged < 0 || plugged/vm.KiB > int64(most.Value) {
		return fmt.Errorf("%d bytes of memory to be plugged are not what its device has: %w", plugged, errdefs.ErrFailedPrecondition)
	}
	device.Target.Requested = &libvirtxml.DomainMemorydevTargetRequested{Value: uint(plugged / vm.KiB), Unit: "KiB"}
	return nil
}
