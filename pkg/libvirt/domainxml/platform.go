// SPDX-License-Identifier: Apache-2.0

package domainxml

import (
	"libvirt.org/go/libvirtxml"

	"github.com/vmlet/vmlet/pkg/vm"
)

// translationCacheMiB is TCG's translation cache. QEMU's own default of up to 1 GiB grows
// by what the guest executes; 32 MiB saved that much PSS a guest and cost no speed.
const translationCacheMiB = 32

// roomyCacheMiB is that of a machine that can be given CPUs while it runs: each new one needs a region of the cache that is free.
const roomyCacheMiB = 64

// platform is the board: accelerator, firmware, clocks, and what ends the machine.
func platform(m vm.Machine, d *libvirtxml.Domain) error {
	d.Features = &libvirtxml.DomainFeatureList{
		ACPI: &libvirtxml.DomainFeature{},
		APIC: &libvirtxml.DomainFeatureAPIC{},
		// VMware's backdoor port: on by default, of no use to our guests.
		VMPort: &libvirtxml.DomainFeatureState{State: "off"},
	}
	switch m.Accel {
	case vm.AccelKVM:
		d.Type = "kvm"
	case vm.AccelTCG:
		d.Type = "qemu"
		size := uint(translationCacheMiB)
		if mostCPUs(m) > m.CPU.Count {
			size = roomyCacheMiB
		}
		d.Features.TCG = &libvirtxml.DomainFeatureTCG{TBCache: &libvirtxml.DomainFeatureTCGTBCache{Unit: "MiB", Size: size}}
	default:
		return invalid("accelerator %q is neither %q nor %q", m.Accel, vm.AccelKVM, vm.AccelTCG)
	}
	d.OS = &libvirtxml.DomainOS{
		Type: &libvirtxml.DomainOSType{Arch: "x86_64", Machine: m.MachineType, Type: "hvm"},
	}
	firmware(m, d.OS)
	d.Clock = &libvirtxml.DomainClock{
		Offset: "utc",
		Timer: []libvirtxml.DomainTimer{
			{Name: "rtc", TickPolicy: "catchup"},
			{Name: "pit", TickPolicy: "delay"},
			// An emulated HPET costs an exit per read and idle CPU per tick.
			{Name: "hpet", Present: "no"},
		},
	}
	// Nobody could wake a guest that went to sleep.
	d.PM = &libvirtxml.DomainPM{
		SuspendToMem:  &libvirtxml.DomainPMPolicy{Enabled: "no"},
		SuspendToDisk: &libvirtxml.DomainPMPolicy{Enabled: "no"},
	}
	// A container that ended must not be there; whether it runs again is kubelet's to say.
	d.OnPoweroff, d.OnReboot, d.OnCrash = "destroy", "restart", "destroy"
	return nil
}
