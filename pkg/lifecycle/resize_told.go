// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"fmt"

	"github.com/vmlet/vmlet/pkg/vm"
)

// askedLater is the answer where no VM runs.
func askedLater(was, ask vm.SizeAsk) vm.Resized {
	number := func(was, ask int64) vm.ResizedNumber {
		if ask == 0 {
			return vm.ResizedNumber{Before: was, After: was}
		}
		return vm.ResizedNumber{Before: was, After: was, Requested: ask, Outcome: vm.ResizeNextMachine, Detail: "no VM runs"}
	}
	set := func(was, ask string) vm.ResizedSet {
		if ask == "" {
			return vm.ResizedSet{Before: was, After: was}
		}
		return vm.ResizedSet{Before: was, After: was, Requested: ask, Outcome: vm.ResizeNextMachine, Detail: "no VM runs"}
	}
	return vm.Resized{
		CPUs: number(int64(was.VCPUs), int64(ask.VCPUs)), Memory: number(was.Memory, ask.Memory), CPUShares: number(was.CPUShares, ask.CPUShares),
		CpusetCPUs: set(was.CpusetCPUs, ask.CpusetCPUs), CpusetMems: set(was.CpusetMems, ask.CpusetMems),
	}
}

// resizedTo says what a VM has that was resized; short is what it could not be given.
func resizedTo(was, is vm.Container, sb vm.Sandbox, ask vm.SizeAsk, short shortfall) vm.Resized {
	limits := func(c vm.Container) vm.Resources { return valueOr(c.Held().Resources) }
	return vm.Resized{
		GuestCPUs:  is.Status.Size.VCPUs,
		CPUs:       toldCPUs(was, is, sb, ask.VCPUs, short.cpus),
		Memory:     toldMemory(was, is, ask.Memory, short.memory),
		CPUShares:  toldNumber(limits(was).CPUShares, limits(is).CPUShares, ask.CPUShares),
		CpusetCPUs: toldSet(limits(was).CpusetCPUs, limits(is).CpusetCPUs, ask.CpusetCPUs),
		CpusetMems: toldSet(limits(was).CpusetMems, limits(is).CpusetMems, ask.CpusetMems),
	}
}

func toldNumber(was, is, ask int64) vm.ResizedNumber {
	n := vm.ResizedNumber{Before: was, After: is, Requested: ask}
	switch ask {
	case 0:
	case is:
		n.Outcome = vm.ResizeApplied
	default:
		n.Outcome = vm.ResizePartly
	}
	return n
}

func toldSet(was, is, ask string) vm.ResizedSet {
	n := vm.ResizedSet{Before: was, After: is, Requested: ask}
	if ask != "" {
		n.Outcome = vm.ResizeApplied
	}
	return n
}

// toldCPUs: CPUs that the guest has not the time for are partly.
func toldCPUs(was, is vm.Container, sb vm.Sandbox, ask int, short error) vm.ResizedNumber {
	n := toldNumber(int64(usable(was)), int64(usable(is)), int64(ask))
	limits := cgroupLimits(sb.Present(), is.Present())
	switch {
	case ask == 0:
	case short != nil:
		n.Detail = short.Error()
	case limits.CPUQuota > 0 && limits.CPUPeriod > 0 && limits.CPUQuota < n.After*limits.CPUPeriod:
		n.Outcome = vm.ResizePartly
		n.Detail = fmt.Sprintf("the limits of the pod allow the time of %.2f CPUs", float64(limits.CPUQuota)/float64(limits.CPUPeriod))
	case int(n.After) < is.Status.Size.VCPUs:
		n.Detail = fmt.Sprintf("by a quota: the guest goes on seeing %d CPUs until its container is created anew", is.Status.Size.VCPUs)
	}
	return n
}

func toldMemory(was, is vm.Container, ask int64, short error) vm.ResizedNumber {
	n := toldNumber(was.Status.Size.Memory, is.Status.Size.Memory, ask)
	switch {
	case ask == 0:
	case short != nil:
		n.Detail = short.Error()
	case n.After > ask:
		n.Detail = "the guest uses the rest, and some room is left to it"
	case n.After < ask:
		n.Outcome, n.Detail = vm.ResizeApplied, fmt.Sprintf("rounded down to whole blocks of %d MiB", vm.MemoryBlock/vm.MiB)
	}
	return n
}
