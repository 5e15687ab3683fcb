// SPDX-License-Identifier: Apache-2.0

package lifecycletest_test

import (
	"testing"

	"github.com/vmlet/vmlet/pkg/lifecycle/lifecycletest"
	"github.com/vmlet/vmlet/pkg/vm"
)

func TestFakeCgroupsKeepTheContract(t *testing.T) {
	lifecycletest.RunCgroups(t, func(*testing.T) lifecycletest.CgroupsEnv {
		alive := map[int]bool{}
		c := lifecycletest.NewCgroups()
		c.SetAlive(func(pid int) bool { return alive[pid] })
		return lifecycletest.CgroupsEnv{
			Cgroups: c,
			Parent:  "/kubepods/poda",
			Start: func() int {
				pid := len(alive) + 1
				alive[pid] = true
				return pid
			},
			Use:   func(int) { c.SetUsage(lifecycletest.CgroupID, vm.CgroupUsage{MemoryUsage: uint64(16 * vm.MiB)}) },
			End:   func(pid int) { alive[pid] = false },
			Alive: func(pid int) bool { return alive[pid] },
		}
	})
}
