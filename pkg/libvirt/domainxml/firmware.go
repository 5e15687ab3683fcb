// SPDX-License-Identifier: Apache-2.0

package domainxml

import (
	"libvirt.org/go/libvirtxml"

	"github.com/vmlet/vmlet/pkg/vm"
)

// firmware is what the machine boots by. Without a <loader> that is QEMU's BIOS for this board, SeaBIOS. For UEFI libvirt looks
// for a loader of the host with each start; of Secure Boot there is nothing in it, which takes a machine with SMM and keys in
// the variables. The file of those is ours: libvirt makes it of the loader's template where it is missing.
func firmware(m vm.Machine, d *libvirtxml.DomainOS) {
	if m.NVRAM == "" {
		return
	}
	d.Firmware = string(vm.FirmwareEFI)
	d.FirmwareInfo = &libvirtxml.DomainOSFirmwareInfo{Features: []libvirtxml.DomainOSFirmwareFeature{
		{Name: "enrolled-keys", Enabled: "no"},
		{Name: "secure-boot", Enabled: "no"},
	}}
	d.NVRam = &libvirtxml.DomainNVRam{NVRam: m.NVRAM}
}

// GiveNVRAM has a machine that boots by UEFI keep its variables in a file. What else is said of its firmware stays.
func GiveNVRAM(d *libvirtxml.Domain, path string) {
	if path == "" || d.OS == nil || d.OS.NVRam == nil {
		return
	}
	d.OS.NVRam.NVRam, d.OS.NVRam.Source = path, nil
}

// NVRAMOf is the file with the variables of a machine, "" for one that boots by BIOS.
func NVRAMOf(d *libvirtxml.Domain) string {
	if d.OS == nil || d.OS.NVRam == nil {
		return ""
	}
	if d.OS.NVRam.Source != nil && d.OS.NVRam.Source.File != nil {
		return d.OS.NVRam.Source.File.File
	}
	return d.OS.NVRam.NVRam
}
