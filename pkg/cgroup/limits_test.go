// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/cgroups"

	"github.com/vmlet/vmlet/pkg/vm"
)

func TestLimitsOf(t *testing.T) {
	for name, tc := range map[string]struct {
		in   vm.Resources
		want cgroups.Resources
	}{
		"none": {vm.Resources{}, cgroups.Resources{SkipDevices: true}},
		"all": {
			vm.Resources{
				CPUShares: 1024, CPUPeriod: 100000, CPUQuota: 150000, CpusetCPUs: "0-1", CpusetMems: "0",
				MemoryLimit: 1 << 30, MemorySwapLimit: 2 << 30, Unified: map[string]string{"memory.high": "1000"},
			},
			cgroups.Resources{
				CpuShares: 1024, CpuWeight: 100, CpuPeriod: 100000, CpuQuota: 150000, CpusetCpus: "0-1", CpusetMems: "0",
				Memory: 1 << 30, MemorySwap: 2 << 30, Unified: map[string]string{"memory.high": "1000"}, SkipDevices: true,
			},
		},
		"what means no limit": {
			vm.Resources{CPUShares: -1, CPUPeriod: -1, CPUQuota: -2, MemoryLimit: -1, MemorySwapLimit: -1},
			cgroups.Resources{CpuQuota: -1, MemorySwap: -1, SkipDevices: true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, *limitsOf(tc.in)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestLimitsAsV2WritesThem(t *testing.T) {
	dir := emulate(t, t.TempDir(), map[string]string{"cgroup.controllers": "cpu cpuset memory pids\n"})
	g := v2Group(t, dir)
	err := g.manager.Set(limitsOf(vm.Resources{
		CPUShares: 512, CPUPeriod: 100000, CPUQuota: 50000, CpusetCPUs: "1", MemoryLimit: 1 << 30, MemorySwapLimit: 1 << 30,
		Unified: map[string]string{"memory.oom.group": "1"},
	}))
	if err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"cpu.weight": "59", "cpu.max": "50000 100000", "cpuset.cpus": "1",
		"memory.max": "1073741824", "memory.swap.max": "0", "memory.oom.group": "1",
	} {
		got, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil || strings.TrimSpace(string(got)) != want {
			t.Errorf("%s: %q, %v, want %q", file, got, err, want)
		}
	}
}
