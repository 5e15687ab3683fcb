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
	host.Devices, err = call(ctx, h.domains, "ask for domain capabilities", "", func(s *session) (map[string][]string, error) {
		text, err := s.GetDomainCapabilities("", "x86_64", "q35", virt, 0)
		if err != nil {
			return nil, err
		}
		return devicesIn(text)
	})
	return host, err
}

// devicesIn reads the values that domain capabilities list, of devices that are supported.
func devicesIn(text string) (map[string][]string, error) {
	var caps libvirtxml.DomainCaps
	if err := caps.Unmarshal(text); err != nil {
		return nil, fmt.Errorf("parse libvirt's domain capabilities: %w", err)
	}
	out := map[string][]string{}
	if caps.Devices == nil {
		return out, nil
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
	return out, nil
}
