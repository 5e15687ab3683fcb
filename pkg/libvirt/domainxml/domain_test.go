// SPDX-License-Identifier: Apache-2.0

package domainxml

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"libvirt.org/go/libvirtxml"

	"github.com/vmlet/vmlet/pkg/vm"
)

var update = flag.Bool("update", false, "write the golden files in testdata anew")

// machine is a machine with everything, as most pods have it.
func machine(change ...func(*vm.Machine)) vm.Machine {
	const id = "0123456789abcdef0123456789abcdef"
	m := vm.Machine{
		SandboxID: id, UUID: vm.UUIDFromID(id), Name: vm.DomainName(id), Owner: "node-1",
		Title: "default/web", Description: "container main, attempt 0",
		Accel: vm.AccelTCG, MachineType: "q35", CPU: vm.MachineCPU{Count: 2, Mode: "maximum"}, Memory: 256 * vm.MiB,
		Disks: []vm.MachineDisk{
			{
				Path: "/var/lib/vmlet/sandboxes/0123/root.qcow2", Format: vm.FormatQCOW2, Bus: vm.BusVirtio, Boot: true,
				ErrorPolicy: "stop", Serial: "root",
				Backing: []vm.BackingFile{{Path: "/var/lib/vmlet/images/base.qcow2", Format: vm.FormatQCOW2}},
			},
			{
				Path: "/var/lib/vmlet/sandboxes/0123/seed.iso", Format: vm.FormatRaw, Bus: vm.BusVirtio, ReadOnly: true,
				ErrorPolicy: "report", Serial: "seed",
			},
		},
		NICs:         []vm.NIC{{Name: "eth0", Tap: "vmt0123", MAC: "02:00:00:00:00:01", MTU: 1450}},
		ConsoleSpool: "/var/lib/vmlet/sandboxes/0123/console.spool",
		AgentChannel: true, RNG: true,
		AgentSocket: "/run/vmlet/agent/0123.sock",
		OutputSpool: "/var/lib/vmlet/sandboxes/0123/output.spool",
		Watchdog:    vm.Watchdog{Model: "i6300esb", Action: "reset"},
		Video:       vm.VideoVGA,
	}
	for _, c := range change {
		c(&m)
	}
	return m
}

func TestWholeDomainMatchesItsGoldenFile(t *testing.T) {
	d, err := Domain(machine())
	if err != nil {
		t.Fatal(err)
	}
	compareGolden(t, "domain", d)
}

func TestMachineIsNotChangedByItsConversion(t *testing.T) {
	m := machine(func(m *vm.Machine) { m.Cputune = &vm.Resources{CPUShares: 1 << 20} })
	if _, err := Domain(m); err != nil {
		t.Fatal(err)
	}
	want := machine(func(m *vm.Machine) { m.Cputune = &vm.Resources{CPUShares: 1 << 20} })
	if diff := cmp.Diff(want, m, cmp.Comparer(func(a, b vm.NIC) bool { return a.Name == b.Name })); diff != "" {
		t.Error(diff)
	}
}

func TestMachinesThatCannotRunAreInvalid(t *testing.T) {
	for name, change := range map[string]func(*vm.Machine){
		"no sandbox ID":            func(m *vm.Machine) { m.SandboxID = "" },
		"no UUID":                  func(m *vm.Machine) { m.UUID = "" },
		"no name":                  func(m *vm.Machine) { m.Name = "" },
		"no owner":                 func(m *vm.Machine) { m.Owner = "" },
		"machine without PCIe":     func(m *vm.Machine) { m.MachineType = "pc-i440fx-7.2" },
		"unknown accelerator":      func(m *vm.Machine) { m.Accel = "hvf" },
		"no CPU":                   func(m *vm.Machine) { m.CPU.Count = 0 },
		"custom CPU without model": func(m *vm.Machine) { m.CPU.Mode = "custom" },
		"CPU model without custom": func(m *vm.Machine) { m.CPU.Model = "Haswell" },
		"no memory":                func(m *vm.Machine) { m.Memory = 0 },
		"unknown bus":              func(m *vm.Machine) { m.Disks[0].Bus = "sata" },
		"relative disk":            func(m *vm.Machine) { m.Disks[0].Path = "root.qcow2" },
		"relative backing file":    func(m *vm.Machine) { m.Disks[0].Backing[0].Path = "base.qcow2" },
		"backing without format":   func(m *vm.Machine) { m.Disks[0].Backing[0].Format = "" },
		"long serial":              func(m *vm.Machine) { m.Disks[0].Serial = "123456789012345678901" },
		"NIC without tap":          func(m *vm.Machine) { m.NICs[0].Tap = "" },
		"NIC without MAC":          func(m *vm.Machine) { m.NICs[0].MAC = "" },
		"relative share":           func(m *vm.Machine) { m.Share = "shares" },
		"no console spool":         func(m *vm.Machine) { m.ConsoleSpool = "" },
		"unknown video device":     func(m *vm.Machine) { m.Video = "cirrus" },
		"VNC of nothing":           func(m *vm.Machine) { m.VNC, m.Video = true, vm.VideoNone },
		"relative output spool":    func(m *vm.Machine) { m.OutputSpool = "output.spool" },
		"relative agent socket":    func(m *vm.Machine) { m.AgentSocket = "agent.sock" },
		"long agent socket":        func(m *vm.Machine) { m.AgentSocket = "/" + strings.Repeat("a", 107) },
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Domain(machine(change)); !errors.Is(err, errdefs.ErrInvalidArgument) {
				t.Errorf("error is %v, want InvalidArgument", err)
			}
		})
	}
}

// configured is a domain with what one configurator added.
func configured(t *testing.T, configure configurator, m vm.Machine) *libvirtxml.Domain {
	t.Helper()
	d := &libvirtxml.Domain{Devices: &libvirtxml.DomainDeviceList{}}
	if err := configure(m, d); err != nil {
		t.Fatal(err)
	}
	return d
}

// compareGolden compares a domain with testdata/<name>.xml.
func compareGolden(t *testing.T, name string, d *libvirtxml.Domain) {
	t.Helper()
	got, err := d.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", name+".xml")
	if *update {
		if err := os.WriteFile(path, []byte(got+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got+"\n"); diff != "" {
		t.Errorf("%s (-want +got); run with -update if the change is meant:\n%s", path, diff)
	}
}
