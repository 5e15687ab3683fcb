// SPDX-License-Identifier: Apache-2.0

package domainxml

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"libvirt.org/go/libvirtxml"

	"github.com/vmlet/vmlet/pkg/vm"
)

func other() vm.Machine {
	return machine(func(m *vm.Machine) {
		m.SandboxID = "fedcba9876543210fedcba9876543210"
		m.UUID, m.Name, m.Owner = vm.UUIDFromID(m.SandboxID), vm.DomainName(m.SandboxID), "another owner"
		m.NICs = []vm.NIC{{Name: "eth0", Tap: "vmlfedc0", MAC: "02:00:00:00:00:02"}}
		m.CPU.Count, m.Memory = 1, 64*vm.MiB
	})
}

func TestASavedMachineIsAnothersAndStaysWhatTheGuestSees(t *testing.T) {
	was, err := Domain(machine())
	if err != nil {
		t.Fatal(err)
	}
	was.Devices.Emulator = "/opt/qemu"
	text, err := was.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Adopt(text, other(), machine().NICs, nil)
	if err != nil {
		t.Fatal(err)
	}
	var d libvirtxml.Domain
	if err := d.Unmarshal(got); err != nil {
		t.Fatal(err)
	}
	nic := d.Devices.Interfaces[0]
	if d.Name != other().Name || d.UUID != other().UUID || !strings.Contains(d.Metadata.XML, "another owner") ||
		nic.Target.Dev != "vmlfedc0" || nic.MAC.Address != "02:00:00:00:00:02" || nic.Alias.Name != "ua-nic-vmlfedc0" || d.Devices.Emulator != "" {
		t.Errorf("it is %s", got)
	}
	if d.VCPU.Value != was.VCPU.Value || d.Memory.Value != was.Memory.Value || nic.MTU.Size != 1450 || len(d.Devices.Controllers) != len(was.Devices.Controllers) {
		t.Errorf("the guest would see another machine: %s", got)
	}
}

// TestAForeignMachineIsNotAdopted: what a file says of a machine must not give its guest more of this host than ours have.
func TestAForeignMachineIsNotAdopted(t *testing.T) {
	for name, change := range map[string]func(*libvirtxml.Domain){
		"a device of the host": func(d *libvirtxml.Domain) {
			d.Devices.Hostdevs = []libvirtxml.DomainHostdev{{SubsysUSB: &libvirtxml.DomainHostdevSubsysUSB{}}}
		},
		"a folder of the host": func(d *libvirtxml.Domain) {
			d.Devices.Filesystems = []libvirtxml.DomainFilesystem{{Target: &libvirtxml.DomainFilesystemTarget{Dir: "x"}}}
		},
		"arguments": func(d *libvirtxml.Domain) {
			d.QEMUCommandline = &libvirtxml.DomainQEMUCommandline{Args: []libvirtxml.DomainQEMUCommandlineArg{{Value: "-x"}}}
		},
		"a kernel": func(d *libvirtxml.Domain) { d.OS.Kernel = "/boot/vmlinuz" },
		"memory more": func(d *libvirtxml.Domain) {
			d.Devices.Memorydevs = []libvirtxml.DomainMemorydev{{Model: VirtioMem}}
		},
		"a NIC more": func(d *libvirtxml.Domain) {
			d.Devices.Interfaces = append(d.Devices.Interfaces, d.Devices.Interfaces[0])
		},
		"another NIC":    func(d *libvirtxml.Domain) { d.Devices.Interfaces[0].Target.Dev = "vmlunknown" },
		"a disk more":    func(d *libvirtxml.Domain) { d.Devices.Disks = append(d.Devices.Disks, d.Devices.Disks[0]) },
		"a serial more":  func(d *libvirtxml.Domain) { d.Devices.Serials = append(d.Devices.Serials, d.Devices.Serials[0]) },
		"a channel less": func(d *libvirtxml.Domain) { d.Devices.Channels = d.Devices.Channels[1:] },
	} {
		d, err := Domain(machine())
		if err != nil {
			t.Fatal(err)
		}
		change(d)
		text, err := d.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Adopt(text, other(), machine().NICs, nil); !errdefs.IsFailedPrecondition(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Adopt("<domain", other(), machine().NICs, nil); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("no XML: %v", err)
	}
}

// TestEachSavedNICBecomesTheOneOfItsName, in whichever order the saved machine has them, and headroom for memory is ours.
func TestEachSavedNICBecomesTheOneOfItsName(t *testing.T) {
	nics := func(prefix, mac string) []vm.NIC {
		return []vm.NIC{{Name: "eth0", Tap: prefix + "0", MAC: mac + "00"}, {Name: "eth1", Tap: prefix + "1", MAC: mac + "01"}, {Name: "eth2", Tap: prefix + "2", MAC: mac + "02"}}
	}
	roomy := func(m *vm.Machine) { m.BootMemory, m.MaxMemory = m.Memory, m.Memory+512*vm.MiB }
	saved := machine(roomy)
	saved.NICs = nics("vmlwas", "02:00:00:00:00:")
	was, err := Domain(saved)
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(was.Devices.Interfaces)
	text, err := was.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	next := machine(roomy)
	next.NICs = nics("vmlnow", "02:00:00:00:01:")
	got, err := Adopt(text, next, saved.NICs, nil)
	if err != nil {
		t.Fatal(err)
	}
	var d libvirtxml.Domain
	if err := d.Unmarshal(got); err != nil {
		t.Fatal(err)
	}
	for i, nic := range d.Devices.Interfaces {
		if n := 2 - i; nic.Target.Dev != fmt.Sprintf("vmlnow%d", n) || nic.MAC.Address != fmt.Sprintf("02:00:00:00:01:%02d", n) {
			t.Errorf("device %d is %s, %s", i, nic.Target.Dev, nic.MAC.Address)
		}
	}
	if len(d.Devices.Memorydevs) != 1 {
		t.Errorf("its headroom is %+v", d.Devices.Memorydevs)
	}
	was.Devices.Memorydevs[0].Model, was.Devices.Memorydevs[0].Source = "nvdimm", &libvirtxml.DomainMemorydevSource{Path: "/etc/shadow"}
	file, err := was.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Adopt(file, next, saved.NICs, nil); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("a file as memory: %v", err)
	}
	if _, err := Adopt(text, next, append(nics("vmlwas", ""), vm.NIC{Name: "eth1", Tap: "vmlwas2"}), nil); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("two of one name: %v", err)
	}
}

// TestMemoryHeadroomIsAdopted: the device that memory is plugged by is of the guest's own memory, and no other's.
func TestMemoryHeadroomIsAdopted(t *testing.T) {
	roomy := func(m *vm.Machine) { m.BootMemory, m.MaxMemory = m.Memory, m.Memory+512*vm.MiB }
	now := other()
	roomy(&now)
	for name, test := range map[string]struct {
		change func(*libvirtxml.Domain)
		ok     bool
	}{
		"ours": {func(*libvirtxml.Domain) {}, true},
		"memory of a file": {func(d *libvirtxml.Domain) {
			d.Devices.Memorydevs[0].Source = &libvirtxml.DomainMemorydevSource{Path: "/dev/pmem0"}
		}, false},
		"another model": {func(d *libvirtxml.Domain) { d.Devices.Memorydevs[0].Model = "nvdimm" }, false},
		"none":          {func(d *libvirtxml.Domain) { d.Devices.Memorydevs = nil }, false},
	} {
		d, err := Domain(machine(roomy))
		if err != nil {
			t.Fatal(err)
		}
		test.change(d)
		text, err := d.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Adopt(text, now, machine(roomy).NICs, nil); (err == nil) != test.ok || err != nil && !errdefs.IsFailedPrecondition(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestASavedUEFIGoesOnIfThisNodeHasIt: its loader is what QEMU has in the memory, and a file of the host all the same.
func TestASavedUEFIGoesOnIfThisNodeHasIt(t *testing.T) {
	const loader = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	efi := func(m *vm.Machine) { m.NVRAM = "/var/lib/vmlet/sandboxes/" + m.SandboxID + "/root.nvram" }
	now := other()
	efi(&now)
	resolved := func(d *libvirtxml.Domain) { // as libvirt 9.0 saves it
		d.OS.Firmware, d.OS.FirmwareInfo = "", nil
		d.OS.Loader = &libvirtxml.DomainLoader{Path: loader, Readonly: "yes", Type: "pflash", Secure: "no"}
		d.OS.NVRam.Template = "/usr/share/OVMF/OVMF_VARS_4M.fd"
	}
	for name, test := range map[string]struct {
		was    vm.Machine
		now    vm.Machine
		change func(*libvirtxml.Domain)
		ok     bool
	}{
		"ours":            {machine(efi), now, resolved, true},
		"another file":    {machine(efi), now, func(d *libvirtxml.Domain) { resolved(d); d.OS.Loader.Path = "/etc/shadow" }, false},
		"one to write to": {machine(efi), now, func(d *libvirtxml.Domain) { resolved(d); d.OS.Loader.Readonly = "no" }, false},
		"a ROM":           {machine(efi), now, func(d *libvirtxml.Domain) { resolved(d); d.OS.Loader.Type = "rom" }, false},
		"none":            {machine(efi), now, func(*libvirtxml.Domain) {}, false},
		"BIOS now":        {machine(efi), other(), resolved, false},
		"BIOS then":       {machine(), now, func(*libvirtxml.Domain) {}, false},
	} {
		d, err := Domain(test.was)
		if err != nil {
			t.Fatal(err)
		}
		test.change(d)
		text, err := d.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		got, err := Adopt(text, test.now, machine().NICs, []string{"/usr/share/OVMF/OVMF_CODE_4M.ms.fd", loader})
		if !test.ok {
			if !errdefs.IsFailedPrecondition(err) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		var adopted libvirtxml.Domain
		if err := errors.Join(err, adopted.Unmarshal(got)); err != nil {
			t.Fatal(err)
		}
		if is := adopted.OS; is.Loader == nil || is.Loader.Path != loader || is.NVRam == nil || is.NVRam.NVRam != now.NVRAM || is.NVRam.Template != "" {
			t.Errorf("%s: its firmware is %s", name, got)
		}
	}
}
