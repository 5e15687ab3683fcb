// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"context"
	"fmt"

	"libvirt.org/go/libvirtxml"

	"github.com/vmlet/vmlet/pkg/vm"
)

// Host implements lifecycle.Hypervisor.
func (h *Hypervisor) Host(ctx context.Context, accel vm.Accel) (vm.Host, error) {
	versions, err := h.Versions(ctx)
	if err != nil {
		return vm.Host{}, err
	}
	host := vm.Host{Libvirt: versions.Libvirt, QEMU: versions.QEMU}
	if host.NoKVM, err = h.kvmUnusable(ctx); err != nil {
		return vm.Host{}, fmt.Errorf("find out whether kvm can be used: %w", err)
	}
	virt := "qemu"
	if accel == vm.AccelKVM {
		virt = "kvm"
	}
	caps, err := h.domainCapabilities(ctx, virt)
	if err != nil {
		return host, err
	}
	host.Devices = devicesIn(caps)
	host.Firmwares, host.Loaders = firmwareIn(caps)
	return host, nil
}

func (h *Hypervisor) domainCapabilities(ctx context.Context, virt string) (libvirtxml.DomainCaps, error) {
	return call(ctx, h.domains, "ask for domain capabilities", "", func(s *session) (caps libvirtxml.DomainCaps, err error) {
		text, err := s.GetDomainCapabilities("", "x86_64", "q35", virt, 0)
		if err != nil {
			return caps, err
		}
		return capabilitiesIn(text)
	})
}

func capabilitiesIn(text string) (caps libvirtxml.DomainCaps, err error) {
	if err := caps.Unmarshal(text); err != nil {
		return caps, fmt.Errorf("parse libvirt's domain capabilities: %w", err)
	}
	return caps, nil
}

// Firmwares are what libvirt can choose for machines beside BIOS, whoever runs their CPUs.
func (h *Hypervisor) Firmwares(ctx context.Context) ([]string, error) {
	caps, err := h.domainCapabilities(ctx, "qemu")
	firmwares, _ := firmwareIn(caps)
	return firmwares, err
}

// firmwareIn reads what can be chosen, and the files of it.
func firmwareIn(caps libvirtxml.DomainCaps) (firmwares, loaders []string) {
	if caps.OS == nil || caps.OS.Supported != "yes" {
		return nil, nil
	}
	for _, enum := range caps.OS.Enums {
		if enum.Name == "firmware" {
			firmwares = enum.Values
		}
	}
	if l := caps.OS.Loader; l != nil && l.Supported == "yes" {
		loaders = l.Values
	}
	return firmwares, loaders
}

// devicesIn reads the values that domain capabilities list, of devices that are supported.
func devicesIn(caps libvirtxml.DomainCaps) map[string][]string {
	out := map[string][]string{}
	if caps.Devices == nil {
		return out
	}
	for name, device := range map[string]*libvirtxml.DomainCapsDevice{
		"disk": caps.Devices.Disk, "graphics": caps.Devices.Graphics, "video": caps.Devices.Video, "hostdev": caps.Devices.HostDev,
		"rng": caps.Devices.RNG, "filesystem": caps.Devices.FileSystem, "tpm": caps.Devices.TPM, "channel": caps.Devices.Channel,
	} {
		if device == nil || device.Supported != "yes" {
			continue
		}
		for _, enum := range device.Enums {
			out[name+"."+enum.Name] = enum.Values
		}
	}
	return out
}
