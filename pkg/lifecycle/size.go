// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// qemuOverhead is what QEMU itself takes beside the guest's RAM, in bytes. Measured
// with QEMU 7.2 and this device set as PSS of a running guest less its RAM: 93-113 MiB
// under tcg with a translation cache of 32 MiB, of which the cache and its page
// descriptors are missing under kvm. Page tables add 1/512 of the RAM. What is charged to
// the VM's group is less, since QEMU is placed there after its start: the peak of guests
// that filled all of 103, 390 and 902 MiB of RAM was 66, 48 and 47 MiB above it.
func qemuOverhead(accel vm.Accel, ram int64) int64 {
	base := 64 * vm.MiB
	if accel == vm.AccelTCG {
		base = 120 * vm.MiB
	}
	return base + ram/512
}

// size is how big a guest is made.
type size struct {
	vcpus  int
	memory int64
}

// sizeOf derives the guest's size. What an annotation says wins; then the pod's limits;
// then the node's defaults.
//
// QEMU's own memory counts in the pod's cgroup, and a guest whose RAM fills the limit
// is killed for it. So the RAM is the whole limit only where the pod brings an overhead
// (RuntimeClass) on top; else it is the limit less what QEMU takes.
func sizeOf(sb vm.SandboxSpec, c vm.ContainerSpec, ask vm.Overrides, d Defaults, accel vm.Accel) (size, error) {
	memory, err := memoryOf(sb, c, ask, d, accel)
	if err != nil {
		return size{}, err
	}
	return size{vcpus: vcpusOf(sb, c, ask, d), memory: memory}, nil
}

func memoryOf(sb vm.SandboxSpec, c vm.ContainerSpec, ask vm.Overrides, d Defaults, accel vm.Accel) (int64, error) {
	limit := limitOf(sb, c, func(r *vm.Resources) int64 { return r.MemoryLimit })
	room, why := int64(0), ""
	switch {
	case limit <= 0:
	case sb.Overhead != nil && sb.Overhead.MemoryLimit > 0:
		room, why = limit, "the pod's memory limit"
	default:
		room = limit - qemuOverhead(accel, limit)
		why = fmt.Sprintf("the pod's memory limit of %d MiB less %d MiB for QEMU (a RuntimeClass overhead of that size would leave the whole limit to the guest)",
			limit/vm.MiB, qemuOverhead(accel, limit)/vm.MiB)
	}
	memory := d.Memory
	if room != 0 {
		memory = room
	}
	if ask.Memory > 0 {
		memory = ask.Memory
	}
	memory -= memory % vm.MiB
	if room != 0 && ask.Memory > max(room, 0) {
		return 0, fmt.Errorf("guest memory of %d MiB was asked for, but there is only room for %d MiB: %s: %w",
			ask.Memory/vm.MiB, room/vm.MiB, why, errdefs.ErrInvalidArgument)
	}
	if memory < d.MinimumMemory {
		if why == "" {
			why = "the memory that was asked for"
		}
		return 0, fmt.Errorf("a guest of %d MiB is too small, %d MiB are the least (defaults.minimumMemory): %s: %w",
			max(memory, 0)/vm.MiB, d.MinimumMemory/vm.MiB, why, errdefs.ErrInvalidArgument)
	}
	return memory, nil
}

// vcpusOf rounds a CPU limit up to whole CPUs; the quota does the rest.
func vcpusOf(sb vm.SandboxSpec, c vm.ContainerSpec, ask vm.Overrides, d Defaults) int {
	if ask.VCPUs > 0 {
		return ask.VCPUs
	}
	quota := limitOf(sb, c, func(r *vm.Resources) int64 { return r.CPUQuota })
	period := limitOf(sb, c, func(r *vm.Resources) int64 { return r.CPUPeriod })
	if quota <= 0 || period <= 0 {
		return d.VCPUs
	}
	return int((quota + period - 1) / period)
}

// limitOf takes a limit from the container, which is the one VM of the pod, or from
// the sums that came with the sandbox.
func limitOf(sb vm.SandboxSpec, c vm.ContainerSpec, field func(*vm.Resources) int64) int64 {
	for _, r := range []*vm.Resources{c.Resources, sb.Resources} {
		if r != nil && field(r) > 0 {
			return field(r)
		}
	}
	return 0
}

// cgroupLimits are the limits of the VM's own group: the container's, widened by the
// overhead where the pod brings one, since QEMU lives in the same group.
func cgroupLimits(sb vm.SandboxSpec, c vm.ContainerSpec) vm.Resources {
	var res vm.Resources
	if sb.Resources != nil {
		res = *sb.Resources
	}
	if c.Resources != nil {
		res = *c.Resources
	}
	if o := sb.Overhead; o != nil {
		if res.MemoryLimit > 0 {
			res.MemoryLimit += o.MemoryLimit
		}
		if res.CPUQuota > 0 && o.CPUQuota > 0 && o.CPUPeriod == res.CPUPeriod {
			res.CPUQuota += o.CPUQuota
		}
	}
	return res
}
