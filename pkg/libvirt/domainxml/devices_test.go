// SPDX-License-Identifier: Apache-2.0

package domainxml

import (
	"errors"
	"slices"
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
		"cpu-places":   {cpu, func(m *vm.Machine) { m.CPU.Max = m.CPU.Count + 2 }},
		"memory-headroom": {memoryHeadroom, func(m *vm.Machine) {
			m.Memory, m.BootMemory, m.MaxMemory = 512*vm.MiB, 256*vm.MiB, vm.GiB
		}},
		"platform-efi":        {platform, func(m *vm.Machine) { m.NVRAM = "/var/lib/vmlet/sandboxes/0123/root.nvram" }},
		"platform-tcg-places": {platform, func(m *vm.Machine) { m.CPU.Max = 8 }},
		"share-headroom": {func(m vm.Machine, d *libvirtxml.Domain) error {
			return errors.Join(memoryHeadroom(m, d), share(m, d))
		}, func(m *vm.Machine) {
			m.Share, m.CPU.Max = "/run/vmlet/shares/0123", 8
			m.Memory, m.BootMemory, m.MaxMemory = 256*vm.MiB, 256*vm.MiB, vm.GiB
		}},
		"cpu-default": {cpu, func(m *vm.Machine) { m.CPU = vm.MachineCPU{Count: 1} }},
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
		"video-none":       {video, func(m *vm.Machine) { m.Video = "" }},
		"vnc":              {vnc, func(m *vm.Machine) { m.VNC = true }},
		"vnc-none":         {configure: vnc},
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

func TestDataDisksInTheDefinition(t *testing.T) {
	own, err := Disk(vm.MachineDisk{Path: "/own", Format: vm.FormatQCOW2, Bus: vm.BusSCSI, Serial: "a", Target: "sdc"})
	if err != nil {
		t.Fatal(err)
	}
	if own.Source.File.SecLabel != nil || own.Target.Dev != "sdc" || own.Target.Bus != "scsi" || own.BackingStore == nil {
		t.Errorf("got %+v", own)
	}
	device, err := Disk(vm.MachineDisk{Path: "/dev/x", Format: vm.FormatRaw, Bus: vm.BusVirtio, Target: "vdd", Block: true, Foreign: true, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	keeps := []libvirtxml.DomainDeviceSecLabel{{Model: "dac", Relabel: "no"}}
	if device.Source.File != nil || device.Source.Block.Dev != "/dev/x" || !slices.Equal(device.Source.Block.SecLabel, keeps) || device.ReadOnly == nil {
		t.Errorf("got %+v", device)
	}
	file, err := Disk(vm.MachineDisk{Path: "/x", Format: vm.FormatRaw, Bus: vm.BusVirtio, Target: "vdc", Foreign: true})
	if err != nil || !slices.Equal(file.Source.File.SecLabel, keeps) {
		t.Errorf("got %+v, %v", file, err)
	}
}
