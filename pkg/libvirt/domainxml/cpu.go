// SPDX-License-Identifier: Apache-2.0

package domainxml

import (
	"libvirt.org/go/libvirtxml"

	"github.com/vmlet/vmlet/pkg/vm"
)

// cpu gives the guest its CPUs as cores of one socket: some guests are licensed for, or
// limited to, few sockets.
func cpu(m vm.Machine, d *libvirtxml.Domain) error {
	if m.CPU.Count < 1 {
		return invalid("%d CPUs", m.CPU.Count)
	}
	if (m.CPU.Mode == "custom") != (m.CPU.Model != "") {
		return invalid("CPU mode %q with model %q: a model goes with mode custom", m.CPU.Mode, m.CPU.Model)
	}
	if m.CPU.Max != 0 && m.CPU.Max < m.CPU.Count {
		return invalid("%d CPUs, and a maximum of %d", m.CPU.Count, m.CPU.Max)
	}
	most := mostCPUs(m)
	d.VCPU = &libvirtxml.DomainVCPU{Placement: "static", Value: uint(most)}
	if most > m.CPU.Count {
		d.VCPU.Current = uint(m.CPU.Count)
	}
	if m.Cputune != nil {
		d.VCPU.CPUSet = m.Cputune.CpusetCPUs
	}
	d.CPU = &libvirtxml.DomainCPU{
		Mode:     m.CPU.Mode,
		Topology: &libvirtxml.DomainCPUTopology{Sockets: 1, Dies: 1, Cores: most, Threads: 1},
	}
	if m.CPU.Model != "" {
		d.CPU.Match = "exact"
		d.CPU.Model = &libvirtxml.DomainCPUModel{Fallback: "forbid", Value: m.CPU.Model}
	}
	return nil
}

// mostCPUs is how many CPUs the machine has places for.
func mostCPUs(m vm.Machine) int { return max(m.CPU.Count, m.CPU.Max) }
