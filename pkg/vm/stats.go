// SPDX-License-Identifier: Apache-2.0

package vm

import "time"

// DomainStats are counters of one domain from libvirt's bulk call.
type DomainStats struct {
	SandboxID string
	// CPUTime is nanoseconds of host CPU that QEMU used since it started.
	CPUTime uint64
	// RSS is QEMU's resident memory in bytes; BalloonCurrent the guest's RAM.
	RSS            uint64
	BalloonCurrent uint64
	// Block counters are summed over the domain's disks.
	BlockReadBytes  uint64
	BlockWriteBytes uint64
	BlockReadOps    uint64
	BlockWriteOps   uint64
}

// CgroupUsage is what the cgroup of a VM says it uses.
type CgroupUsage struct {
	At time.Time
	// CPUUsage is nanoseconds since the cgroup was made.
	CPUUsage uint64
	// MemoryUsage is all that is charged to the cgroup, in bytes; WorkingSet is that
	// less the inactive page cache, as kubelet's eviction counts.
	MemoryUsage uint64
	WorkingSet  uint64
	RSS         uint64
	PageFaults  uint64
	MajorFaults uint64
	MemoryLimit uint64
	// OOMKills counts the kernel's kills in the cgroup since it was made.
	OOMKills uint64
	PIDs     uint64
}

// Stats is one sample of a sandbox's VM, with the time of each part as it was taken.
type Stats struct {
	SandboxID   string
	ContainerID string
	At          time.Time
	// CPUUsage is nanoseconds since the VM started; NanoCores its rate between the last
	// two samples, 0 until there are two.
	CPUUsage    uint64
	NanoCores   uint64
	MemoryUsage uint64
	WorkingSet  uint64
	RSS         uint64
	PageFaults  uint64
	MajorFaults uint64
	// MemoryAvailable is limit less working set, 0 where there is no limit.
	MemoryAvailable uint64
	// DiskUsed is what the root disks of the sandbox take on the host.
	DiskUsed   uint64
	DiskInodes uint64
	DiskMount  string
	NICs       []NICStats
	PIDs       uint64
}
