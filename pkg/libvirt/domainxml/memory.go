// SPDX-License-Identifier: Apache-2.0

package domainxml

import (
	"fmt"

	"libvirt.org/go/libvirtxml"

	"github.com/vmlet/vmlet/pkg/vm"
)

// VirtioMem is the model of the device that memory is plugged into a running guest with.
const VirtioMem = "virtio-mem"

// memory gives the guest its RAM. It is rounded down to KiB, libvirt's unit: a guest must
// not get more than what was reckoned against the pod's limit.
func memory(m vm.Machine, d *libvirtxml.Domain) error {
	kib := bootMemory(m) / vm.KiB
	if kib < 1 {
		return invalid("%d bytes of memory", m.Memory)
	}
	d.Memory = &libvirtxml.DomainMemory{Value: uint(kib), Unit: "KiB"}
	return nil
}

func bootMemory(m vm.Machine) int64 {
	if m.MaxMemory == 0 {
		return m.Memory
	}
	return m.BootMemory
}

// memoryHeadroom is a virtio-mem device that the guest's memory can grow and shrink by. It takes a NUMA node, without which
// libvirt has no memory plugged, and a slot, though it needs none. It comes after cpu, whose element holds the nodes.
func memoryHeadroom(m vm.Machine, d *libvirtxml.Domain) error {
	if m.MaxMemory == 0 {
		return nil
	}
	most, now := m.MaxMemory-m.BootMemory, m.Memory-m.BootMemory
	if most <= 0 || now < 0 || now > most || most%vm.MemoryBlock != 0 || now%vm.MemoryBlock != 0 {
		return invalid("memory of %d bytes, from %d to %d: what is beyond the first must be a multiple of %d", m.Memory, m.BootMemory, m.MaxMemory, vm.MemoryBlock)
	}
	node(m, d)
	d.MaximumMemory = &libvirtxml.DomainMaxMemory{Value: uint(m.MaxMemory / vm.KiB), Unit: "KiB", Slots: 1}
	d.Devices.Memorydevs = []libvirtxml.DomainMemorydev{{
		Model: VirtioMem,
		Target: &libvirtxml.DomainMemorydevTarget{
			Size:      &libvirtxml.DomainMemorydevTargetSize{Value: uint(most / vm.KiB), Unit: "KiB"},
			Node:      &libvirtxml.DomainMemorydevTargetNode{Value: 0},
			Block:     &libvirtxml.DomainMemorydevTargetBlock{Value: uint(vm.MemoryBlock / vm.KiB), Unit: "KiB"},
			Requested: &libvirtxml.DomainMemorydevTargetRequested{Value: uint(now / vm.KiB), Unit: "KiB"},
		},
	}}
	return nil
}

// node is the machine's one NUMA node, made if it is not there yet.
func node(m vm.Machine, d *libvirtxml.Domain) *libvirtxml.DomainCell {
	if d.CPU == nil {
		d.CPU = &libvirtxml.DomainCPU{}
	}
	if d.CPU.Numa == nil {
		d.CPU.Numa = &libvirtxml.DomainNuma{Cell: []libvirtxml.DomainCell{{
			ID: new(uint(0)), CPUs: fmt.Sprintf("0-%d", mostCPUs(m)-1), Memory: uint(bootMemory(m) / vm.KiB), Unit: "KiB",
		}}}
	}
	return &d.CPU.Numa.Cell[0]
}
