// SPDX-License-Identifier: Apache-2.0

package domainxml

import (
	"libvirt.org/go/libvirtxml"

	"github.com/vmlet/vmlet/pkg/vm"
)

// libvirt hands shares to cgroup v1 as cpu.shares (2 to 262144) and to v2 as cpu.weight
// (1 to 10000) without converting. Their common range keeps the proportions on both.
const minShares, maxShares = 2, 10000

// tune limits the CPUs through libvirt's own cgroups, for hosts where those are on. Memory is
// not limited: libvirt advises against hard_limit, since nobody can tell what QEMU needs.
func tune(m vm.Machine, d *libvirtxml.Domain) error {
	if m.Cputune == nil {
		return nil
	}
	r := *m.Cputune
	t := &libvirtxml.DomainCPUTune{}
	if r.CPUShares > 0 {
		t.Shares = &libvirtxml.DomainCPUTuneShares{Value: uint(min(max(r.CPUShares, minShares), maxShares))}
	}
	if r.CPUQuota > 0 && r.CPUPeriod > 0 {
		// CRI's quota is for the pod as a whole; libvirt's plain quota is per vCPU.
		t.GlobalPeriod = &libvirtxml.DomainCPUTunePeriod{Value: uint64(r.CPUPeriod)}
		t.GlobalQuota = &libvirtxml.DomainCPUTuneQuota{Value: r.CPUQuota}
	}
	if r.CpusetCPUs != "" {
		t.EmulatorPin = &libvirtxml.DomainCPUTuneEmulatorPin{CPUSet: r.CpusetCPUs}
	}
	if r.CpusetMems != "" {
		d.NUMATune = &libvirtxml.DomainNUMATune{
			Memory: &libvirtxml.DomainNUMATuneMemory{Mode: "strict", Nodeset: r.CpusetMems},
		}
	}
	d.CPUTune = t
	return nil
}
