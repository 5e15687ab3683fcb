// SPDX-License-Identifier: Apache-2.0

package domainxml

import (
	"testing"

	"libvirt.org/go/libvirtxml"

	"github.com/vmlet/vmlet/pkg/vm"
)

func TestDevicesMatchTheirGoldenFiles(t *testing.T) {
	kvm := func(m *vm.Machine) { m.Accel = vm.AccelKVM }
	for name, tc := range map[string]struct {
		configure configurator
		change    func(*vm.Machine)
	}{
		"identity": {configure: identity},
		"identity-title-on-one-line": {identity, func(m *vm.Machine) {
			m.Title, m.Owner = "two\nlines", `a "quoted" <owner>`
		}},
		"platform-tcg": {configure: platform},
		"platform-kvm": {platform, func(m *vm.Machine) { kvm(m); m.MachineType = "pc-q35-7.2" }},
		"cpu":          {configure: cpu},
		"cpu-default":  {cpu, func(m *vm.Machine) { m.CPU = vm.MachineCPU{Count: 1} }},
		"cpu-custom": {cpu, func(m *vm.Machine) {
			m.CPU = vm.MachineCPU{Count: 4, Mode: "custom", Model: "Haswell-noTSX"}
		}},
		"memory-rounded-down": {memory, func(m *vm.Machine) { m.Memory = 128*vm.MiB + 1023 }},
		"controllers":         {configure: controllers},
		"controllers-scsi": {controllers, func(m *vm.Machine) {
			m.Disks[1].Bus = vm.BusSCSI
			m.NICs = append(m.NICs, m.NICs...)
		}},
		"disks": {configure: disks},
		"disks-buses-counted-apart": {disks, func(m *vm.Machine) {
			scsi := vm.MachineDisk{Path: "/data.raw", Format: vm.FormatRaw, Bus: vm.BusSCSI}
			m.Disks = append(m.Disks, scsi, vm.MachineDisk{Path: "/b.raw", Format: vm.FormatRaw, Bus: vm.BusVirtio}, scsi)
		}},
		"disks-chain": {disks, func(m *vm.Machine) {
			m.Disks = m.Disks[:1]
			m.Disks[0].Backing = append([]vm.BackingFile{{Path: "/layer.qcow2", Format: vm.FormatQCOW2}},
				m.Disks[0].Backing[0], vm.BackingFile{Path: "/base.raw", Format: vm.FormatRaw})
		}},
		"nics":             {configure: nics},
		"nics-without-mtu": {nics, func(m *vm.Machine) { m.NICs[0].MTU = 0 }},
		"console":          {configure: console},
		"channels":         {configure: channels},
		"channels-qga":     {channels, func(m *vm.Machine) { m.AgentSocket, m.OutputSpool = "", "" }},
		"channels-none":    {channels, func(m *vm.Machine) { m.AgentChannel, m.AgentSocket, m.OutputSpool = false, "", "" }},
		"rng":              {configure: rng},
		"rng-none":         {rng, func(m *vm.Machine) { m.RNG = false }},
		"watchdog":         {configure: watchdog},
		"watchdog-none":    {watchdog, func(m *vm.Machine) { m.Watchdog = vm.Watchdog{} }},
		"panic":            {configure: panicDevice},
		"balloon":          {configure: balloon},
		"video":            {configure: video},
		"share":            {share, func(m *vm.Machine) { m.Share = "/run/vmlet/shares/0123" }},
		"share-none":       {configure: share},
	} {
		t.Run(name, func(t *testing.T) {
			m := machine()
			if tc.change != nil {
				tc.change(&m)
			}
			compareGolden(t, name, configured(t, tc.configure, m))
		})
	}
}

func TestDiskLettersFollowLinux(t *testing.T) {
	for n, want := range map[int]string{0: "a", 25: "z", 26: "aa", 51: "az", 52: "ba", 701: "zz", 702: "aaa"} {
		if got := letters(n); got != want {
			t.Errorf("letters(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestPluggedShareIsTheSameDeviceWithASocket(t *testing.T) {
	d := &libvirtxml.Domain{Devices: &libvirtxml.DomainDeviceList{}}
	d.Devices.Filesystems = append(d.Devices.Filesystems, *SharePlug("/run/vmlet/agent/0123.fs"))
	compareGolden(t, "share-plug", d)
}
