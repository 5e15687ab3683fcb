// SPDX-License-Identifier: Apache-2.0

package vm

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

// Bytes, for sizes written in code.
const (
	KiB int64 = 1 << 10
	MiB int64 = 1 << 20
	GiB int64 = 1 << 30
)
