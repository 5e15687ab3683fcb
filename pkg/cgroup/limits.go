// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"github.com/opencontainers/cgroups"

	"github.com/vmlet/vmlet/pkg/vm"
)

// limitsOf maps the limits as CRI states them (LinuxContainerResources) to the library's.
// A zero leaves the kernel's default, which is no limit.
func limitsOf(r vm.Resources) *cgroups.Resources {
	return &cgroups.Resources{
		CpuShares: uint64(max(r.CPUShares, 0)),
		// cgroup v2 knows weights; v1 ignores the field.
		CpuWeight:  cgroups.ConvertCPUSharesToCgroupV2Value(uint64(max(r.CPUShares, 0))),
		CpuPeriod:  uint64(max(r.CPUPeriod, 0)),
		CpuQuota:   max(r.CPUQuota, -1),
		CpusetCpus: r.CpusetCPUs,
		CpusetMems: r.CpusetMems,
		Memory:     max(r.MemoryLimit, 0),
		// Memory and swap together, or -1; on v2 the library takes the memory off.
		MemorySwap:  max(r.MemorySwapLimit, -1),
		Unified:     r.Unified,
		SkipDevices: true,
	}
}
