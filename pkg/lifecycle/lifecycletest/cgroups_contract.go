// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"context"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/lifecycle"
	"github.com/vmlet/vmlet/pkg/vm"
)

// CgroupsEnv is a lifecycle.Cgroups under test, with processes to put into groups.
type CgroupsEnv struct {
	Cgroups lifecycle.Cgroups
	// Parent is a pod's cgroup that is the environment's own.
	Parent string
	// Start starts a process, Use has it take some 16 MiB of memory, End ends it, and Alive
	// tells whether it runs.
	Start func() (pid int)
	Use   func(pid int)
	End   func(pid int)
	Alive func(pid int) bool
}

// CgroupID is the sandbox that the contract's groups belong to.
const CgroupID = "0123456789abcdef0123456789abcdef"

// RunCgroups is the contract of lifecycle.Cgroups. open returns a new environment.
func RunCgroups(t *testing.T, open func(t *testing.T) CgroupsEnv) {
	t.Helper()
	for name, run := range map[string]func(*testing.T, CgroupsEnv){
		"what was not created has no usage":          usageNeedsAGroup,
		"what was not created takes no process":      placeNeedsAGroup,
		"creating twice is creating once":            createIsIdempotent,
		"a group can go without a limit":             groupWithoutLimit,
		"a placed process is counted":                placedProcessIsCounted,
		"what was not created has no limits":         updateNeedsAGroup,
		"limits of a group in use change":            updateChangesLimits,
		"a limit below what is used changes nothing": updateIsWholeOrNothing,
		"removing kills nothing":                     removeKillsNothing,
		"a removed group is gone, and again":         removeIsIdempotent,
		"removing what was never created succeeds":   removeNothing,
		"groups of two sandboxes are apart":          groupsAreApart,
		"an ended context keeps a group from coming": endedContextMakesNoGroup,
	} {
		t.Run(name, func(t *testing.T) { run(t, open(t)) })
	}
}

func mustCreateGroup(t *testing.T, env CgroupsEnv, id string, res vm.Resources) {
	t.Helper()
	if err := env.Cgroups.Create(t.Context(), id, env.Parent, res); err != nil {
		t.Fatal(err)
	}
}

func mustPlace(t *testing.T, env CgroupsEnv, id string, pid int) {
	t.Helper()
	if err := env.Cgroups.Place(t.Context(), id, env.Parent, pid); err != nil {
		t.Fatal(err)
	}
}

func mustUsage(t *testing.T, env CgroupsEnv, id string) vm.CgroupUsage {
	t.Helper()
	u, err := env.Cgroups.Usage(t.Context(), id, env.Parent)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func mustRemoveGroup(t *testing.T, env CgroupsEnv, id string) {
	t.Helper()
	if err := env.Cgroups.Remove(t.Context(), id, env.Parent); err != nil {
		t.Fatal(err)
	}
}

func usageNeedsAGroup(t *testing.T, env CgroupsEnv) {
	if u, err := env.Cgroups.Usage(t.Context(), CgroupID, env.Parent); !errdefs.IsNotFound(err) {
		t.Errorf("got %+v, %v", u, err)
	}
}

func placeNeedsAGroup(t *testing.T, env CgroupsEnv) {
	if err := env.Cgroups.Place(t.Context(), CgroupID, env.Parent, env.Start()); !errdefs.IsNotFound(err) {
		t.Errorf("got %v", err)
	}
}

func createIsIdempotent(t *testing.T, env CgroupsEnv) {
	limits := vm.Resources{CPUShares: 512, CPUPeriod: 100000, CPUQuota: 50000, MemoryLimit: 64 * vm.MiB}
	mustCreateGroup(t, env, CgroupID, limits)
	mustCreateGroup(t, env, CgroupID, limits)
	u := mustUsage(t, env, CgroupID)
	if u.PIDs != 0 || u.OOMKills != 0 || u.MemoryLimit != uint64(limits.MemoryLimit) {
		t.Errorf("a new group has %+v", u)
	}
	mustRemoveGroup(t, env, CgroupID)
}

func groupWithoutLimit(t *testing.T, env CgroupsEnv) {
	mustCreateGroup(t, env, CgroupID, vm.Resources{})
	if u := mustUsage(t, env, CgroupID); u.MemoryLimit != 0 {
		t.Errorf("the limit is %d", u.MemoryLimit)
	}
	mustRemoveGroup(t, env, CgroupID)
}

func placedProcessIsCounted(t *testing.T, env CgroupsEnv) {
	pid := env.Start()
	mustCreateGroup(t, env, CgroupID, vm.Resources{})
	mustPlace(t, env, CgroupID, pid)
	mustPlace(t, env, CgroupID, pid)
	if u := mustUsage(t, env, CgroupID); u.PIDs == 0 {
		t.Errorf("got %+v", u)
	}
	env.End(pid)
	mustRemoveGroup(t, env, CgroupID)
}

func updateNeedsAGroup(t *testing.T, env CgroupsEnv) {
	if err := env.Cgroups.Update(t.Context(), CgroupID, env.Parent, vm.Resources{}, vm.Resources{CPUShares: 512}); !errdefs.IsNotFound(err) {
		t.Errorf("got %v", err)
	}
	usageNeedsAGroup(t, env)
}

func updateChangesLimits(t *testing.T, env CgroupsEnv) {
	pid := env.Start()
	from, to := vm.Resources{MemoryLimit: 128 * vm.MiB}, vm.Resources{MemoryLimit: 64 * vm.MiB, CPUShares: 512}
	mustCreateGroup(t, env, CgroupID, from)
	mustPlace(t, env, CgroupID, pid)
	for range 2 {
		if err := env.Cgroups.Update(t.Context(), CgroupID, env.Parent, from, to); err != nil {
			t.Fatal(err)
		}
	}
	if u := mustUsage(t, env, CgroupID); u.MemoryLimit != uint64(to.MemoryLimit) || u.PIDs == 0 {
		t.Errorf("got %+v", u)
	}
	env.End(pid)
	mustRemoveGroup(t, env, CgroupID)
}

func updateIsWholeOrNothing(t *testing.T, env CgroupsEnv) {
	pid := env.Start()
	from := vm.Resources{MemoryLimit: 128 * vm.MiB}
	mustCreateGroup(t, env, CgroupID, from)
	mustPlace(t, env, CgroupID, pid)
	env.Use(pid)
	if err := env.Cgroups.Update(t.Context(), CgroupID, env.Parent, from, vm.Resources{MemoryLimit: vm.MiB, CPUShares: 512}); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("got %v", err)
	}
	if u := mustUsage(t, env, CgroupID); u.MemoryLimit != uint64(from.MemoryLimit) || !env.Alive(pid) {
		t.Errorf("got %+v, the process lives: %v", u, env.Alive(pid))
	}
	env.End(pid)
	mustRemoveGroup(t, env, CgroupID)
}

func removeKillsNothing(t *testing.T, env CgroupsEnv) {
	pid := env.Start()
	mustCreateGroup(t, env, CgroupID, vm.Resources{})
	mustPlace(t, env, CgroupID, pid)
	if err := env.Cgroups.Remove(t.Context(), CgroupID, env.Parent); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("with a process in the group: %v", err)
	}
	if !env.Alive(pid) {
		t.Error("the process was killed")
	}
	mustUsage(t, env, CgroupID)
	env.End(pid)
	mustRemoveGroup(t, env, CgroupID)
}

func removeIsIdempotent(t *testing.T, env CgroupsEnv) {
	mustCreateGroup(t, env, CgroupID, vm.Resources{})
	mustRemoveGroup(t, env, CgroupID)
	usageNeedsAGroup(t, env)
	mustRemoveGroup(t, env, CgroupID)
}

func removeNothing(t *testing.T, env CgroupsEnv) { mustRemoveGroup(t, env, CgroupID) }

func groupsAreApart(t *testing.T, env CgroupsEnv) {
	const other = "fedcba9876543210fedcba9876543210"
	pid := env.Start()
	mustCreateGroup(t, env, CgroupID, vm.Resources{})
	mustCreateGroup(t, env, other, vm.Resources{})
	mustPlace(t, env, other, pid)
	if u := mustUsage(t, env, CgroupID); u.PIDs != 0 {
		t.Errorf("%d processes are in a group that none was placed in", u.PIDs)
	}
	mustRemoveGroup(t, env, CgroupID)
	mustUsage(t, env, other)
	env.End(pid)
	mustRemoveGroup(t, env, other)
}

func endedContextMakesNoGroup(t *testing.T, env CgroupsEnv) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := env.Cgroups.Create(ctx, CgroupID, env.Parent, vm.Resources{}); !errdefs.IsCanceled(err) {
		t.Errorf("got %v", err)
	}
	usageNeedsAGroup(t, env)
}
