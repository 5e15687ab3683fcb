// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

func TestSizeOf(t *testing.T) {
	defaults := Defaults{VCPUs: 1, Memory: 1 * vm.GiB, MinimumMemory: 64 * vm.MiB}
	limit := func(bytes int64) *vm.Resources { return &vm.Resources{MemoryLimit: bytes} }
	for name, tc := range map[string]struct {
		sandbox   vm.SandboxSpec
		container vm.ContainerSpec
		ask       vm.Overrides
		memory    int64
		vcpus     int
		err       string
	}{
		"nothing asked":                      {memory: vm.GiB, vcpus: 1},
		"limit less overhead":                {container: vm.ContainerSpec{Resources: limit(512 * vm.MiB)}, memory: 353 * vm.MiB, vcpus: 1},
		"limit, overhead granted":            {sandbox: vm.SandboxSpec{Overhead: limit(160 * vm.MiB)}, container: vm.ContainerSpec{Resources: limit(512 * vm.MiB)}, memory: 512 * vm.MiB, vcpus: 1},
		"limit, too little overhead granted": {sandbox: vm.SandboxSpec{Overhead: limit(20 * vm.MiB)}, container: vm.ContainerSpec{Resources: limit(512 * vm.MiB)}, memory: 373 * vm.MiB, vcpus: 1},
		"limit that is all overhead":         {container: vm.ContainerSpec{Resources: limit(126075360)}, err: "a guest of 0 MiB is too small"},
		"more CPUs than a machine has":       {container: vm.ContainerSpec{Resources: &vm.Resources{CPUQuota: 256 * 100000, CPUPeriod: 100000}}, err: "a CPU limit of 256"},
		"a quota beyond all bounds":          {container: vm.ContainerSpec{Resources: &vm.Resources{CPUQuota: math.MaxInt64, CPUPeriod: 1}}, err: "a CPU limit of"},
		"pod's sum":                          {sandbox: vm.SandboxSpec{Resources: limit(512 * vm.MiB)}, memory: 353 * vm.MiB, vcpus: 1},
		"annotation":                         {ask: vm.Overrides{Memory: 300 * vm.MiB, VCPUs: 3}, memory: 300 * vm.MiB, vcpus: 3},
		"annotation within limit":            {container: vm.ContainerSpec{Resources: limit(512 * vm.MiB)}, ask: vm.Overrides{Memory: 128 * vm.MiB}, memory: 128 * vm.MiB, vcpus: 1},
		"annotation over limit":              {container: vm.ContainerSpec{Resources: limit(512 * vm.MiB)}, ask: vm.Overrides{Memory: 512 * vm.MiB}, err: "only room for 353 MiB"},
		"limit too small":                    {container: vm.ContainerSpec{Resources: limit(166 * vm.MiB)}, err: "a guest of 7 MiB is too small, 64 MiB are the least"},
		"limit below the overhead":           {container: vm.ContainerSpec{Resources: limit(15 * vm.MiB)}, err: "a guest of 0 MiB is too small"},
		"UEFI":                               {ask: vm.Overrides{Firmware: vm.FirmwareEFI, Memory: 256 * vm.MiB}, memory: 256 * vm.MiB, vcpus: 1},
		"UEFI, too small":                    {ask: vm.Overrides{Firmware: vm.FirmwareEFI, Memory: 255 * vm.MiB}, err: "a guest of 255 MiB is too small to boot by UEFI (annotation vmlet.io/firmware), 256 MiB are the least"},
		"UEFI, by too small a limit":         {container: vm.ContainerSpec{Resources: limit(256 * vm.MiB)}, ask: vm.Overrides{Firmware: vm.FirmwareEFI}, err: "too small to boot by UEFI"},
		"headroom, too small":                {ask: vm.Overrides{Memory: 159 * vm.MiB, MaxMemory: vm.GiB}, err: "a guest of 159 MiB is too small to be given more memory while it runs (annotation vmlet.io/max-memory), for which its kernel sets 64 MiB aside; 160 MiB are the least"},
		"headroom, by too small a limit":     {container: vm.ContainerSpec{Resources: limit(300 * vm.MiB)}, ask: vm.Overrides{MaxMemory: vm.GiB}, err: "160 MiB are the least: the pod's memory limit of 300 MiB less 158 MiB for QEMU"},
		"no headroom above what it has":      {ask: vm.Overrides{Memory: 128 * vm.MiB, MaxMemory: 128 * vm.MiB}, memory: 128 * vm.MiB, vcpus: 1},
		"CPUs without a limit":               {ask: vm.Overrides{DefaultVCPUs: 3}, memory: vm.GiB, vcpus: 3},
		"a CPU limit counts before them":     {container: vm.ContainerSpec{Resources: &vm.Resources{CPUQuota: 200000, CPUPeriod: 100000}}, ask: vm.Overrides{DefaultVCPUs: 3}, memory: vm.GiB, vcpus: 2},
		"CPU limit rounds up":                {container: vm.ContainerSpec{Resources: &vm.Resources{CPUQuota: 150000, CPUPeriod: 100000}}, memory: vm.GiB, vcpus: 2},
		"whole CPUs":                         {container: vm.ContainerSpec{Resources: &vm.Resources{CPUQuota: 200000, CPUPeriod: 100000}}, memory: vm.GiB, vcpus: 2},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := sizeOf(tc.sandbox, tc.container, tc.ask, defaults, vm.AccelTCG)
			if tc.err != "" {
				if !errors.Is(err, errdefs.ErrInvalidArgument) || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("error = %v, want %q", err, tc.err)
				}
				return
			}
			if err != nil || got != (vm.MachineSize{VCPUs: tc.vcpus, Memory: tc.memory}) {
				t.Errorf("size = %+v, %v; want %d vCPUs, %d MiB", got, err, tc.vcpus, tc.memory/vm.MiB)
			}
		})
	}
}

func TestCgroupHoldsTheOverheadToo(t *testing.T) {
	got := cgroupLimits(
		vm.SandboxSpec{Overhead: &vm.Resources{MemoryLimit: 160 * vm.MiB, CPUQuota: 25000, CPUPeriod: 100000}},
		vm.ContainerSpec{Resources: &vm.Resources{MemoryLimit: 512 * vm.MiB, CPUQuota: 100000, CPUPeriod: 100000, CPUShares: 1024, MemorySwapLimit: 512 * vm.MiB}})
	// The sum with swap is never less than the memory alone: kubelet has them equal for "no swap".
	if got.MemoryLimit != 672*vm.MiB || got.MemorySwapLimit != 672*vm.MiB || got.CPUQuota != 125000 || got.CPUShares != 1024 {
		t.Errorf("limits = %+v", got)
	}
}

func TestCgroupTakesFromThePodWhatTheContainerDoesNotLimit(t *testing.T) {
	got := cgroupLimits(
		vm.SandboxSpec{Resources: &vm.Resources{MemoryLimit: 512 * vm.MiB, CPUQuota: 50000, CPUPeriod: 100000}},
		vm.ContainerSpec{Resources: &vm.Resources{CPUQuota: 100000, CPUPeriod: 100000}})
	if got.MemoryLimit != 512*vm.MiB || got.CPUQuota != 100000 {
		t.Errorf("limits = %+v", got)
	}
}

func TestHeadroomIsForThoseWhoAskOrAreBig(t *testing.T) {
	d := Defaults{VCPUs: 1, Memory: vm.GiB, MaxVCPUs: 4, MemoryHeadroom: 4}
	for name, tc := range map[string]struct {
		size vm.MachineSize
		ask  vm.Overrides
		want vm.MachineSize
	}{
		"small":             {vm.MachineSize{VCPUs: 1, Memory: vm.GiB - 1}, vm.Overrides{}, vm.MachineSize{VCPUs: 1, Memory: vm.GiB - 1, MaxVCPUs: 4}},
		"big":               {vm.MachineSize{VCPUs: 4, Memory: vm.GiB}, vm.Overrides{}, vm.MachineSize{VCPUs: 4, Memory: vm.GiB, MaxMemory: 4 * vm.GiB, BootMemory: vm.GiB}},
		"small, asked":      {vm.MachineSize{VCPUs: 1, Memory: 127 * vm.MiB}, vm.Overrides{MaxMemory: 256 * vm.MiB, MaxVCPUs: 2}, vm.MachineSize{VCPUs: 1, MaxVCPUs: 2, Memory: 127 * vm.MiB, MaxMemory: 255 * vm.MiB, BootMemory: 127 * vm.MiB}},
		"less than it has":  {vm.MachineSize{VCPUs: 3, Memory: vm.GiB}, vm.Overrides{MaxMemory: vm.GiB, MaxVCPUs: 2}, vm.MachineSize{VCPUs: 3, Memory: vm.GiB}},
		"more by one block": {vm.MachineSize{VCPUs: 3, Memory: vm.GiB}, vm.Overrides{MaxMemory: vm.GiB + 3*vm.MiB, MaxVCPUs: 1}, vm.MachineSize{VCPUs: 3, Memory: vm.GiB, MaxMemory: vm.GiB + 2*vm.MiB, BootMemory: vm.GiB}},
	} {
		if got := withHeadroom(tc.size, tc.ask, d); got != tc.want {
			t.Errorf("%s: %+v, want %+v", name, got, tc.want)
		}
	}
}

// limitFor is roomOf the other way round: what it says has room for the guest, and hardly more.
func TestALimitForAGuestHasRoomForIt(t *testing.T) {
	for _, brought := range []int64{0, 20 * vm.MiB, 160 * vm.MiB} {
		for _, memory := range []int64{64 * vm.MiB, 353 * vm.MiB, vm.GiB, 64 * vm.GiB} {
			sb := vm.SandboxSpec{Overhead: &vm.Resources{MemoryLimit: brought}}
			sb.Resources = &vm.Resources{MemoryLimit: limitFor(memory, sb, vm.AccelTCG)}
			if got := roomOf(sb, vm.ContainerSpec{}, vm.AccelTCG); got.bytes < memory || got.bytes > memory+vm.MiB/1024 {
				t.Errorf("%d MiB with an overhead of %d MiB: the limit %d has room for %d bytes", memory/vm.MiB, brought/vm.MiB, sb.Resources.MemoryLimit, got.bytes)
			}
		}
	}
}
