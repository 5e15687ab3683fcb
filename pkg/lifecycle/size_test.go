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
		"limit less overhead":                {container: vm.ContainerSpec{Resources: limit(512 * vm.MiB)}, memory: 391 * vm.MiB, vcpus: 1},
		"limit, overhead granted":            {sandbox: vm.SandboxSpec{Overhead: limit(160 * vm.MiB)}, container: vm.ContainerSpec{Resources: limit(512 * vm.MiB)}, memory: 512 * vm.MiB, vcpus: 1},
		"limit, too little overhead granted": {sandbox: vm.SandboxSpec{Overhead: limit(20 * vm.MiB)}, container: vm.ContainerSpec{Resources: limit(512 * vm.MiB)}, memory: 411 * vm.MiB, vcpus: 1},
		"limit that is all overhead":         {container: vm.ContainerSpec{Resources: limit(126075360)}, err: "a guest of 0 MiB is too small"},
		"more CPUs than a machine has":       {container: vm.ContainerSpec{Resources: &vm.Resources{CPUQuota: 256 * 100000, CPUPeriod: 100000}}, err: "a CPU limit of 256"},
		"a quota beyond all bounds":          {container: vm.ContainerSpec{Resources: &vm.Resources{CPUQuota: math.MaxInt64, CPUPeriod: 1}}, err: "a CPU limit of"},
		"pod's sum":                          {sandbox: vm.SandboxSpec{Resources: limit(512 * vm.MiB)}, memory: 391 * vm.MiB, vcpus: 1},
		"annotation":                         {ask: vm.Overrides{Memory: 300 * vm.MiB, VCPUs: 3}, memory: 300 * vm.MiB, vcpus: 3},
		"annotation within limit":            {container: vm.ContainerSpec{Resources: limit(512 * vm.MiB)}, ask: vm.Overrides{Memory: 128 * vm.MiB}, memory: 128 * vm.MiB, vcpus: 1},
		"annotation over limit":              {container: vm.ContainerSpec{Resources: limit(512 * vm.MiB)}, ask: vm.Overrides{Memory: 512 * vm.MiB}, err: "only room for 391 MiB"},
		"limit too small":                    {container: vm.ContainerSpec{Resources: limit(128 * vm.MiB)}, err: "a guest of 7 MiB is too small, 64 MiB are the least"},
		"limit below the overhead":           {container: vm.ContainerSpec{Resources: limit(15 * vm.MiB)}, err: "a guest of 0 MiB is too small"},
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
