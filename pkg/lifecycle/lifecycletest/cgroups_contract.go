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
	// Start starts a process, End ends it, and Alive tells whether it runs.
	Start func() (pid int)
	End   func(pid int)
	Alive func(pid int) bool
}

// cgroupID is the sandbox that the contract's groups belong to.
const cgroupID = "0123456789abcdef0123456789abcdef"

// RunCgroups is the contract of lifecycle.Cgroups. open returns a new environment.
func RunCgroups(t *testing.T, open func(t *testing.T) CgroupsEnv) {
	t.Helper()
	for name, run := range map[string]func(*testing.T, CgroupsEnv){
		"what was not created has no usage":          usageNeedsAGroup,
		"what was not created takes no process":      placeNeedsAGroup,
		"creating twice is creating once":            createIsIdempotent,
		"a group can go without a limit":             groupWithoutLimit,
		"a placed process is counted":                placedProcessIsCounted,
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
	if u, err := env.Cgroups.Usage(t.Context(), cgroupID, env.Parent); !errdefs.IsNotFound(err) {
		t.Errorf("got %+v, %v", u, err)
	}
}

func placeNeedsAGroup(t *testing.T, env CgroupsEnv) {
	if err := env.Cgroups.Place(t.Context(), cgroupID, env.Parent, env.Start()); !errdefs.IsNotFound(err) {
		t.Errorf("got %v", err)
	}
}

func createIsIdempotent(t *testing.T, env CgroupsEnv) {
	limits := vm.Resources{CPUShares: 512, CPUPeriod: 100000, CPUQuota: 50000, MemoryLimit: 64 * vm.MiB}
	mustCreateGroup(t, env, cgroupID, limits)
	mustCreateGroup(t, env, cgroupID, limits)
	u := mustUsage(t, env, cgroupID)
	if u.PIDs != 0 || u.OOMKills != 0 || u.MemoryLimit != uint64(limits.MemoryLimit) {
		t.Errorf("a new group has %+v", u)
	}
	mustRemoveGroup(t, env, cgroupID)
}

func groupWithoutLimit(t *testing.T, env CgroupsEnv) {
	mustCreateGroup(t, env, cgroupID, vm.Resources{})
	if u := mustUsage(t, env, cgroupID); u.MemoryLimit != 0 {
		t.Errorf("the limit is %d", u.MemoryLimit)
	}
	mustRemoveGroup(t, env, cgroupID)
}

func placedProcessIsCounted(t *testing.T, env CgroupsEnv) {
	pid := env.Start()
	mustCreateGroup(t, env, cgroupID, vm.Resources{})
	mustPlace(t, env, cgroupID, pid)
	mustPlace(t, env, cgroupID, pid)
	if u := mustUsage(t, env, cgroupID); u.PIDs == 0 {
		t.Errorf("got %+v", u)
	}
	env.End(pid)
	mustRemoveGroup(t, env, cgroupID)
}

func removeKillsNothing(t *testing.T, env CgroupsEnv) {
	pid := env.Start()
	mustCreateGroup(t, env, cgroupID, vm.Resources{})
	mustPlace(t, env, cgroupID, pid)
	if err := env.Cgroups.Remove(t.Context(), cgroupID, env.Parent); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("with a process in the group: %v", err)
	}
	if !env.Alive(pid) {
		t.Error("the process was killed")
	}
	mustUsage(t, env, cgroupID)
	env.End(pid)
	mustRemoveGroup(t, env, cgroupID)
}

func removeIsIdempotent(t *testing.T, env CgroupsEnv) {
	mustCreateGroup(t, env, cgroupID, vm.Resources{})
	mustRemoveGroup(t, env, cgroupID)
	usageNeedsAGroup(t, env)
	mustRemoveGroup(t, env, cgroupID)
}

func removeNothing(t *testing.T, env CgroupsEnv) { mustRemoveGroup(t, env, cgroupID) }

func groupsAreApart(t *testing.T, env CgroupsEnv) {
	const other = "fedcba9876543210fedcba9876543210"
	pid := env.Start()
	mustCreateGroup(t, env, cgroupID, vm.Resources{})
	mustCreateGroup(t, env, other, vm.Resources{})
	mustPlace(t, env, other, pid)
	if u := mustUsage(t, env, cgroupID); u.PIDs != 0 {
		t.Errorf("%d processes are in a group that none was placed in", u.PIDs)
	}
	mustRemoveGroup(t, env, cgroupID)
	mustUsage(t, env, other)
	env.End(pid)
	mustRemoveGroup(t, env, other)
}

func endedContextMakesNoGroup(t *testing.T, env CgroupsEnv) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := env.Cgroups.Create(ctx, cgroupID, env.Parent, vm.Resources{}); !errdefs.IsCanceled(err) {
		t.Errorf("got %v", err)
	}
	usageNeedsAGroup(t, env)
}
