// SPDX-License-Identifier: Apache-2.0

package vm

// Capability is something that can be done to VMs, or cannot.
type Capability struct {
	// Name is stable: clients ask by it.
	Name      string `json:"name"`
	Available bool   `json:"available"`
	// WhyNot is for people, "" if it can be done.
	WhyNot string `json:"whyNot,omitempty"`
}

// Host is what libvirt and its QEMU can do for our machines.
type Host struct {
	// Libvirt and QEMU are their versions, such as "9.0.0".
	Libvirt, QEMU string
	// NoKVM says why the host's CPUs cannot run guests by KVM, "" if they can.
	NoKVM string
	// Devices are the values that libvirt's domain capabilities list for devices, by "DEVICE.ENUM" in libvirt's words, such as
	// "filesystem.driverType": "path", "handle", "virtiofs".
	Devices map[string][]string
	// Firmwares is what libvirt can choose for machines beside BIOS: "efi". Loaders are the files of such firmware.
	Firmwares, Loaders []string
}
