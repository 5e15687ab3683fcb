// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"context"
	"encoding/xml"
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
		if err := requireActive(dom); err != nil {
			return vm.LiveSize{}, err
		}
		text, err := dom.GetXMLDesc(0)
		if err != nil {
			return vm.LiveSize{}, fmt.Errorf("read the domain's XML: %w", err)
		}
		return sizeIn(text)
	})
}

// liveXML is what a running domain's XML says of its size. libvirtxml does not know <current>.
type liveXML struct {
	VCPU struct {
		Current int `xml:"current,attr"`
		Value   int `xml:",chardata"`
	} `xml:"vcpu"`
	Memory []struct {
		Model     string  `xml:"model,attr"`
		Requested kibXML  `xml:"target>requested"`
		Current   *kibXML `xml:"target>current"`
	} `xml:"devices>memory"`
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

func sizeIn(text string) (size vm.LiveSize, err error) {
	var d liveXML
	if err := xml.Unmarshal([]byte(text), &d); err != nil {
		return size, fmt.Errorf("parse the domain's XML: %w", err)
	}
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
		d, err := domainOf(dom, virt.DOMAIN_XML_INACTIVE|virt.DOMAIN_XML_SECURE)
		if err != nil {
			return err
		}
		same, err := resized(d, vcpus, plugged)
		if err != nil || same {
			return err
		}
		return redefine(s, d)
	})
}

// resized gives a definition another size; same if it has that.
func resized(d *libvirtxml.Domain, vcpus int, plugged int64) (same bool, err error) {
	if d.VCPU == nil || vcpus > int(d.VCPU.Value) {
		return false, fmt.Errorf("the definition has no places for %d CPUs: %w", vcpus, errdefs.ErrFailedPrecondition)
	}
	was := d.VCPU.Current
	if was == 0 {
		was = d.VCPU.Value
	}
	same = was == uint(vcpus)
	if d.VCPU.Current = uint(vcpus); d.VCPU.Current == d.VCPU.Value {
		d.VCPU.Current = 0
	}
	device := headroomOf(d.Devices)
	switch {
	case device == nil && plugged == 0:
		return same, nil
	case device == nil:
		return false, errNoHeadroom
	case device.Target.Requested != nil && int64(device.Target.Requested.Value)*vm.KiB == plugged:
		return same, nil
	}
	return false, request(device, plugged)
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
