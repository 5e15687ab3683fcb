// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/annotations"
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

// sizeOf derives the guest's size. What an annotation says wins; then the pod's limits;
// then the node's defaults.
func sizeOf(sb vm.SandboxSpec, c vm.ContainerSpec, ask vm.Overrides, d Defaults, accel vm.Accel) (vm.MachineSize, error) {
	memory, err := memoryOf(sb, c, ask, d, accel)
	if err != nil {
		return vm.MachineSize{}, err
	}
	vcpus := vcpusOf(sb, c, ask, d)
	if vcpus > annotations.MaxVCPUs {
		return vm.MachineSize{}, fmt.Errorf("a CPU limit of %d is more than the %d CPUs that a guest can have: %w", vcpus, annotations.MaxVCPUs, errdefs.ErrInvalidArgument)
	}
	return vm.MachineSize{VCPUs: int(vcpus), Memory: memory}, nil
}

// room is what a pod's memory limit leaves for the guest's RAM, in bytes, and how that
// came about; limited is false where there is no limit.
type room struct {
	limited bool
	bytes   int64
	why     string
}

// roomOf: QEMU's own memory counts in the pod's cgroup, and a guest whose RAM fills the
// limit is killed for it. So the RAM is the limit less what QEMU takes, of which the
// overhead that the pod brings on top (RuntimeClass) pays its part.
func roomOf(sb vm.SandboxSpec, c vm.ContainerSpec, accel vm.Accel) room {
	limit := limitOf(sb, c, func(r *vm.Resources) int64 { return r.MemoryLimit })
	if limit <= 0 {
		return room{why: "the memory that was asked for"}
	}
	takes, brought := qemuOverhead(accel, limit), int64(0)
	if sb.Overhead != nil {
		brought = max(sb.Overhead.MemoryLimit, 0)
	}
	if brought >= takes {
		return room{limited: true, bytes: limit, why: "the pod's memory limit"}
	}
	return room{limited: true, bytes: limit - (takes - brought), why: fmt.Sprintf(
		"the pod's memory limit of %d MiB less %d MiB for QEMU (a RuntimeClass overhead of %d MiB would leave the whole limit to the guest)",
		limit/vm.MiB, (takes-brought)/vm.MiB, (takes+vm.MiB-1)/vm.MiB)}
}

func memoryOf(sb vm.SandboxSpec, c vm.ContainerSpec, ask vm.Overrides, d Defaults, accel vm.Accel) (int64, error) {
	room := roomOf(sb, c, accel)
	memory := d.Memory
	if room.limited {
		memory = room.bytes
	}
	if ask.Memory > 0 {
		memory = ask.Memory
	}
	memory -= memory % vm.MiB
	if room.limited && ask.Memory > max(room.bytes, 0) {
		return 0, fmt.Errorf("guest memory of %d MiB was asked for, but there is only room for %d MiB: %s: %w",
			ask.Memory/vm.MiB, max(room.bytes, 0)/vm.MiB, room.why, errdefs.ErrInvalidArgument)
	}
	if memory < d.MinimumMemory {
		return 0, fmt.Errorf("a guest of %d MiB is too small, %d MiB are the least (defaults.minimumMemory): %s: %w",
			max(memory, 0)/vm.MiB, d.MinimumMemory/vm.MiB, room.why, errdefs.ErrInvalidArgument)
	}
	return memory, nil
}

// vcpusOf rounds a CPU limit up to whole CPUs; the quota does the rest.
func vcpusOf(sb vm.SandboxSpec, c vm.ContainerSpec, ask vm.Overrides, d Defaults) int64 {
	if ask.VCPUs > 0 {
		return int64(ask.VCPUs)
	}
	quota := limitOf(sb, c, func(r *vm.Resources) int64 { return r.CPUQuota })
	period := limitOf(sb, c, func(r *vm.Resources) int64 { return r.CPUPeriod })
	if quota <= 0 || period <= 0 {
		return int64(d.VCPUs)
	}
	return (quota-1)/period + 1
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
	// What only the pod's sums limit holds for its one VM, which was sized by it too.
	res.MemoryLimit = limitOf(sb, c, func(r *vm.Resources) int64 { return r.MemoryLimit })
	res.CPUQuota = limitOf(sb, c, func(r *vm.Resources) int64 { return r.CPUQuota })
	res.CPUPeriod = limitOf(sb, c, func(r *vm.Resources) int64 { return r.CPUPeriod })
	if o := sb.Overhead; o != nil {
		if res.MemoryLimit > 0 {
			res.MemoryLimit += o.MemoryLimit
		}
		if res.MemorySwapLimit > 0 { // memory and swap together
			res.MemorySwapLimit += o.MemoryLimit
		}
		if res.CPUQuota > 0 && o.CPUQuota > 0 && o.CPUPeriod == res.CPUPeriod {
			res.CPUQuota += o.CPUQuota
		}
	}
	return res
}
