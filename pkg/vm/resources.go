// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"cmp"
	"maps"
	"reflect"
)

// Resources are limits as CRI's LinuxContainerResources states them.
type Resources struct {
	// CPUPeriod and CPUQuota are microseconds; a quota of 0 or less is no limit.
	CPUPeriod int64 `json:"cpuPeriod,omitempty"`
	CPUQuota  int64 `json:"cpuQuota,omitempty"`
	// CPUShares is a relative weight, 0 for unset.
	CPUShares int64 `json:"cpuShares,omitempty"`
	// MemoryLimit is bytes, 0 for no limit.
	MemoryLimit int64  `json:"memoryLimit,omitempty"`
	OOMScoreAdj int64  `json:"oomScoreAdj,omitempty"`
	CpusetCPUs  string `json:"cpusetCPUs,omitempty"`
	CpusetMems  string `json:"cpusetMems,omitempty"`
	// MemorySwapLimit is bytes, memory and swap together as cgroup v1 counts; 0 for unset.
	MemorySwapLimit int64 `json:"memorySwapLimit,omitempty"`
	// Unified holds cgroup v2 keys, passed through.
	Unified map[string]string `json:"unified,omitempty"`
}

// Equal tells whether both are the same limits, however they say that there is no quota.
func (r Resources) Equal(other Resources) bool {
	r.CPUQuota, other.CPUQuota = max(r.CPUQuota, 0), max(other.CPUQuota, 0)
	return reflect.DeepEqual(r, other)
}

// Merge returns the limits with those of change in their place. What change leaves open (0,
// "", no key) stays, as CRI's updates have it; a quota of -1 is no limit.
func (r Resources) Merge(change Resources) Resources {
	for _, field := range []struct{ old, next *int64 }{
		{&r.CPUPeriod, &change.CPUPeriod},
		{&r.CPUQuota, &change.CPUQuota},
		{&r.CPUShares, &change.CPUShares},
		{&r.MemoryLimit, &change.MemoryLimit},
		{&r.OOMScoreAdj, &change.OOMScoreAdj},
		{&r.MemorySwapLimit, &change.MemorySwapLimit},
	} {
		if *field.next != 0 {
			*field.old = *field.next
		}
	}
	r.CpusetCPUs = cmp.Or(change.CpusetCPUs, r.CpusetCPUs)
	r.CpusetMems = cmp.Or(change.CpusetMems, r.CpusetMems)
	if len(change.Unified) > 0 {
		unified := maps.Clone(r.Unified)
		if unified == nil {
			unified = map[string]string{}
		}
		maps.Copy(unified, change.Unified)
		r.Unified = unified
	}
	return r
}

// defaultPeriod is the kernel's period of a CPU quota, in microseconds.
const defaultPeriod = 100000

// WithCPUs returns the limits with the time of no more than count CPUs.
func (r Resources) WithCPUs(count int) Resources {
	if r.CPUPeriod <= 0 {
		r.CPUPeriod = defaultPeriod
	}
	if most := int64(count) * r.CPUPeriod; r.CPUQuota <= 0 || r.CPUQuota > most {
		r.CPUQuota = most
	}
	return r
}

// Bytes, for sizes written in code.
const (
	KiB int64 = 1 << 10
	MiB int64 = 1 << 20
	GiB int64 = 1 << 30
)
