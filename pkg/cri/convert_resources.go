// SPDX-License-Identifier: Apache-2.0

package cri

import (
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/vm"
)

// resources converts limits; nil stays nil. Kubelets list every huge page size of the
// node with a limit of 0, which asks for nothing.
func resources(field string, r *runtimeapi.LinuxContainerResources) (*vm.Resources, error) {
	if r == nil {
		return nil, nil
	}
	for _, limit := range []struct {
		name  string
		value int64
	}{
		{"cpu_period", r.GetCpuPeriod()},
		{"cpu_shares", r.GetCpuShares()},
		{"memory_limit_in_bytes", r.GetMemoryLimitInBytes()},
	} {
		if limit.value < 0 {
			return nil, invalid(field+"."+limit.name, "%d is negative", limit.value)
		}
	}
	// oom_score_adj's range is that of /proc/PID/oom_score_adj, proc(5).
	if adj := r.GetOomScoreAdj(); adj < -1000 || adj > 1000 {
		return nil, invalid(field+".oom_score_adj", "%d is not within -1000 to 1000", adj)
	}
	for _, huge := range r.GetHugepageLimits() {
		if huge.GetLimit() > 0 {
			return nil, refused(field+".hugepage_limits", "guests are not backed by huge pages of the host yet; remove the "+huge.GetPageSize()+" limit")
		}
	}
	return &vm.Resources{
		CPUPeriod:       r.GetCpuPeriod(),
		CPUQuota:        r.GetCpuQuota(),
		CPUShares:       r.GetCpuShares(),
		MemoryLimit:     r.GetMemoryLimitInBytes(),
		OOMScoreAdj:     r.GetOomScoreAdj(),
		CpusetCPUs:      r.GetCpusetCpus(),
		CpusetMems:      r.GetCpusetMems(),
		MemorySwapLimit: r.GetMemorySwapLimitInBytes(),
		Unified:         r.GetUnified(),
	}, nil
}

// containerResources tells back what a container was created with.
func containerResources(r *vm.Resources) *runtimeapi.ContainerResources {
	if r == nil {
		return nil
	}
	return &runtimeapi.ContainerResources{Linux: &runtimeapi.LinuxContainerResources{
		CpuPeriod:              r.CPUPeriod,
		CpuQuota:               r.CPUQuota,
		CpuShares:              r.CPUShares,
		MemoryLimitInBytes:     r.MemoryLimit,
		OomScoreAdj:            r.OOMScoreAdj,
		CpusetCpus:             r.CpusetCPUs,
		CpusetMems:             r.CpusetMems,
		MemorySwapLimitInBytes: r.MemorySwapLimit,
		Unified:                r.Unified,
	}}
}
