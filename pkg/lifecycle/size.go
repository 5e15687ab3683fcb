// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"cmp"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/annotations"
	"github.com/vmlet/vmlet/pkg/vm"
)

// qemuOverhead is what QEMU itself takes beside the guest's RAM, in bytes. Measured
// with QEMU 7.2 and this device set as what is charged to the group of a guest under tcg,
// whose translation cache of 32 MiB with its page descriptors is missing under kvm, less
// its RAM: 47 to 66 MiB while it runs, and 40 to 60 more for a second of each reboot. There
// the firmware maps device after device, and QEMU makes all its maps of memory anew for each,
// faster than it frees the former ones; a boot before has the RAM already. The peak over
// dozens of reboots was 93 MiB, with two more NICs on a busy host 146, with seven 171. Page
// tables add 1/512 of the RAM.
func qemuOverhead(accel vm.Accel, ram int64) int64 {
	base := 104 * vm.MiB
	if accel == vm.AccelTCG {
		base = 158 * vm.MiB
	}
	return base + ram/512
}

// leastForEFI is what a guest takes to boot by UEFI, in bytes: with OVMF of edk2 2022.11 and 128 MiB the tiny guest's boot loader has
// no room for the kernel, with 160 and 192 MiB the firmware crashes.
const leastForEFI = 256 * vm.MiB

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
	if d.MaxVCPUs == 0 && accel == vm.AccelKVM {
		d.MaxVCPUs = placesWithKVM
	}
	size := withHeadroom(vm.MachineSize{VCPUs: int(vcpus), Memory: memory}, ask, d)
	if size.MaxMemory > 0 && memory < leastForHeadroom {
		return vm.MachineSize{}, fmt.Errorf("a guest of %d MiB is too small to be given more memory while it runs (annotation %s), for which its kernel sets 64 MiB aside; %d MiB are the least: %s: %w",
			memory/vm.MiB, annotations.MemoryMax, leastForHeadroom/vm.MiB, roomOf(sb, c, accel).why, errdefs.ErrInvalidArgument)
	}
	return size, nil
}

// placesWithKVM is how many CPUs a machine has places for where nobody says. Under tcg it has none beyond its own: QEMU would
// translate for CPUs that run beside each other, which is slower, into a larger cache.
const placesWithKVM = 4

// headroomFrom is the memory from which on a guest has headroom for more without being asked: a guest that may get memory
// above 4 GiB sets 64 MiB aside at once (Linux's swiotlb), which a small one cannot spare.
const headroomFrom = vm.GiB

// leastForHeadroom is what a guest with headroom takes to boot, in bytes: the tiny guest stops for good in its boot with 136 MiB,
// and with 144 it has 1 MiB free.
const leastForHeadroom = 160 * vm.MiB

// withHeadroom adds what a machine can be given while it runs. What is asked for that is less than it begins with is none.
func withHeadroom(size vm.MachineSize, ask vm.Overrides, d Defaults) vm.MachineSize {
	most := d.MaxVCPUs
	if ask.MaxVCPUs > 0 {
		most = ask.MaxVCPUs
	}
	if most > size.VCPUs {
		size.MaxVCPUs = most
	}
	memory := ask.MaxMemory
	if memory == 0 && size.Memory >= headroomFrom {
		memory = size.Memory * d.MemoryHeadroom
	}
	if most := memory - size.Memory; most >= vm.MemoryBlock {
		size.BootMemory, size.MaxMemory = size.Memory, size.Memory+most-most%vm.MemoryBlock
	}
	return size
}

// asked puts what a VM's owner asked for in the place of what its annotations say.
func asked(ask vm.Overrides, a vm.SizeAsk) vm.Overrides {
	if a.VCPUs > 0 {
		ask.VCPUs = a.VCPUs
	}
	if a.Memory > 0 {
		ask.Memory = a.Memory
	}
	return ask
}

// askedNow is what a VM's owner asked for, as far as the next machine can have it: limits that have been lowered since hold.
func askedNow(sb vm.Sandbox, c vm.ContainerSpec, accel vm.Accel) vm.SizeAsk {
	a := sb.Status.Asked
	if room := roomOf(sb.Present(), c, accel); room.limited && a.Memory > room.bytes {
		a.Memory = 0
	}
	return a
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
	takes, brought := qemuOverhead(accel, limit), overheadOf(sb)
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
	if ask.Firmware == vm.FirmwareEFI && memory < leastForEFI {
		return 0, fmt.Errorf("a guest of %d MiB is too small to boot by UEFI (annotation %s), %d MiB are the least: %s: %w",
			max(memory, 0)/vm.MiB, annotations.Firmware, leastForEFI/vm.MiB, room.why, errdefs.ErrInvalidArgument)
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
		return int64(cmp.Or(ask.DefaultVCPUs, d.VCPUs))
	}
	return (quota-1)/period + 1
}

func overheadOf(sb vm.SandboxSpec) int64 { return max(valueOr(sb.Overhead).MemoryLimit, 0) }

// limitFor is the memory limit that leaves a guest that much: the other way round than roomOf.
func limitFor(memory int64, sb vm.SandboxSpec, accel vm.Accel) int64 {
	brought := overheadOf(sb)
	if brought >= qemuOverhead(accel, memory) {
		return memory
	}
	base := qemuOverhead(accel, 0)
	return ((memory+base-brought)*512 + 510) / 511
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

// groupLimits are the limits of a VM's group as the records say: cgroupLimits with what holds beside the limits. While a
// guest has more memory than its limit has room for, as when it is given less and has not given it back yet, there is room
// for what it has: it would be killed.
func groupLimits(sb vm.Sandbox, c vm.Container, accel vm.Accel) vm.Resources {
	pod, asked := sb.Present(), c.Status.Asked
	res := cgroupLimits(pod, c.Present())
	switch {
	case asked.VCPUs > 0 && asked.VCPUs < c.Status.Size.VCPUs:
		res = res.WithCPUs(asked.VCPUs)
	case asked.VCPUs > 0 && res.CPUQuota == 0:
		res.CPUQuota = -1 // an earlier ceiling goes
	}
	res = res.Merge(vm.Resources{CpusetCPUs: asked.CpusetCPUs, CpusetMems: asked.CpusetMems, CPUShares: asked.CPUShares})
	has := c.Status.Size.Memory
	if r := c.Status.Resize; r != nil {
		has = max(has, r.From.Memory, r.To.Memory)
	}
	if c.Status.Size.MaxMemory > 0 && res.MemoryLimit > 0 {
		least := limitFor(has, pod, accel) + overheadOf(pod)
		if res.MemorySwapLimit > 0 {
			res.MemorySwapLimit += max(least-res.MemoryLimit, 0)
		}
		res.MemoryLimit = max(res.MemoryLimit, least)
	}
	return res
}
