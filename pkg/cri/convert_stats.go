// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/vm"
)

// nanos is a time as the CRI writes it, 0 for none.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func count(n uint64) *runtimeapi.UInt64Value { return &runtimeapi.UInt64Value{Value: n} }

// known is a value that is never 0 once it is known.
func known(n uint64) *runtimeapi.UInt64Value {
	if n == 0 {
		return nil
	}
	return count(n)
}

// sample is the last sample of a container, if there is one.
type sample struct {
	stats vm.Stats
	taken bool
}

// atStart stands in until a running VM was sampled for the first time: when it was
// started, it had used nothing.
func atStart(c vm.Container) sample {
	if c.Status.State != vm.ContainerRunning {
		return sample{}
	}
	return sample{stats: vm.Stats{SandboxID: c.SandboxID, ContainerID: c.ID, At: c.Status.StartedAt}, taken: true}
}

// containerStats converts a sample. Without one it names the container, and no more.
func containerStats(c vm.Container, s sample) *runtimeapi.ContainerStats {
	out := &runtimeapi.ContainerStats{Attributes: &runtimeapi.ContainerAttributes{
		Id:          c.ID,
		Metadata:    containerMetadata(c),
		Labels:      c.Spec.Labels,
		Annotations: c.Spec.Annotations,
	}}
	if s.taken {
		out.Cpu, out.Memory, out.WritableLayer = cpuUsage(s.stats), memoryUsage(s.stats), writableLayer(s.stats)
	}
	return out
}

// podSandboxStats converts the sample of a sandbox's running container, nil if none
// runs: pod and container are one VM, so they have the same figures.
func podSandboxStats(sb vm.Sandbox, running *vm.Container, s sample) *runtimeapi.PodSandboxStats {
	out := &runtimeapi.PodSandboxStats{
		Attributes: &runtimeapi.PodSandboxAttributes{
			Id:          sb.ID,
			Metadata:    sandboxMetadata(sb),
			Labels:      sb.Spec.Labels,
			Annotations: sb.Spec.Annotations,
		},
		Linux: &runtimeapi.LinuxPodSandboxStats{},
	}
	if running == nil || !s.taken {
		return out
	}
	out.Linux = &runtimeapi.LinuxPodSandboxStats{
		Cpu:        cpuUsage(s.stats),
		Memory:     memoryUsage(s.stats),
		Network:    networkUsage(s.stats),
		Process:    &runtimeapi.ProcessUsage{Timestamp: nanos(s.stats.At), ProcessCount: count(s.stats.PIDs)},
		Containers: []*runtimeapi.ContainerStats{containerStats(*running, s)},
	}
	return out
}

func cpuUsage(s vm.Stats) *runtimeapi.CpuUsage {
	return &runtimeapi.CpuUsage{
		Timestamp:            nanos(s.At),
		UsageCoreNanoSeconds: count(s.CPUUsage),
		UsageNanoCores:       known(s.NanoCores),
	}
}

func memoryUsage(s vm.Stats) *runtimeapi.MemoryUsage {
	return &runtimeapi.MemoryUsage{
		Timestamp:       nanos(s.At),
		WorkingSetBytes: count(s.WorkingSet),
		AvailableBytes:  known(s.MemoryAvailable),
		UsageBytes:      count(s.MemoryUsage),
		RssBytes:        count(s.RSS),
		PageFaults:      count(s.PageFaults),
		MajorPageFaults: count(s.MajorFaults),
	}
}

// writableLayer is what the root disks take on the host, nil before they were measured.
func writableLayer(s vm.Stats) *runtimeapi.FilesystemUsage {
	if s.DiskMount == "" {
		return nil
	}
	return filesystemUsage(vm.FSUsage{At: s.At, MountPoint: s.DiskMount, UsedBytes: s.DiskUsed, UsedInodes: s.DiskInodes})
}

func networkUsage(s vm.Stats) *runtimeapi.NetworkUsage {
	if len(s.NICs) == 0 {
		return nil
	}
	usage := &runtimeapi.NetworkUsage{Timestamp: nanos(s.At), DefaultInterface: interfaceUsage(s.NICs[0])}
	for _, nic := range s.NICs[1:] {
		usage.Interfaces = append(usage.Interfaces, interfaceUsage(nic))
	}
	return usage
}

func interfaceUsage(n vm.NICStats) *runtimeapi.NetworkInterfaceUsage {
	return &runtimeapi.NetworkInterfaceUsage{
		Name:     n.Name,
		RxBytes:  count(n.RxBytes),
		RxErrors: count(n.RxErrors),
		TxBytes:  count(n.TxBytes),
		TxErrors: count(n.TxErrors),
	}
}
