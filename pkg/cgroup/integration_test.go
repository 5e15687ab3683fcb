// SPDX-License-Identifier: Apache-2.0

//go:build integration

package cgroup

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/cgroups"
	"go.uber.org/goleak"

	"github.com/vmlet/vmlet/pkg/lifecycle/lifecycletest"
	"github.com/vmlet/vmlet/pkg/vm"
)

// These tests need root and cgroup v1. They make groups of their own and leave none.

const id = "0123456789abcdef0123456789abcdef"

// childMode makes this test binary a process to be placed.
const childMode = "VMLET_TEST_CGROUP_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childMode) {
	case "":
		goleak.VerifyTestMain(m)
	case "hog":
		hog()
	}
}

// hog says that it runs, waits for a line with a number of MiB, 0 for a GiB, and takes so much
// memory, a MiB at a time; then it says so. It has more threads than one.
func hog() {
	for range 3 {
		go func() {
			runtime.LockOSThread()
			select {}
		}()
	}
	fmt.Println("up")
	var most int
	if _, err := fmt.Scanln(&most); err != nil {
		return
	}
	var kept [][]byte
	for range cmp.Or(most, 1024) {
		block := make([]byte, 1<<20)
		for i := 0; i < len(block); i += 4096 {
			block[i] = 1
		}
		kept = append(kept, block)
	}
	fmt.Println(len(kept))
	_, _ = io.Copy(io.Discard, os.Stdin) //nolint:errcheck // it waits to be killed
	runtime.KeepAlive(kept)
}

type child struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Reader
}

func startChild(tb testing.TB) child {
	tb.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childMode+"=hog", "GOMAXPROCS=2")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	c := child{cmd: cmd, stdin: stdin, stdout: bufio.NewReader(stdout)}
	tb.Cleanup(c.kill)
	if _, err := c.stdout.ReadString('\n'); err != nil {
		tb.Fatal(err)
	}
	return c
}

func (c child) pid() int { return c.cmd.Process.Pid }

// use has the child take so many MiB of memory.
func (c child) use(tb testing.TB, mib int) {
	tb.Helper()
	if _, err := fmt.Fprintln(c.stdin, mib); err != nil {
		tb.Fatal(err)
	}
	if _, err := c.stdout.ReadString('\n'); err != nil {
		tb.Fatal(err)
	}
}

// kill ends the child, also a second time.
func (c child) kill() {
	if err := c.cmd.Process.Kill(); err == nil {
		if _, err := c.cmd.Process.Wait(); err != nil {
			panic(err)
		}
	}
}

// newParent makes a pod's group with a memory limit (0 for none) that goes with the test.
func newParent(tb testing.TB, memory int64) (c *Cgroups, parent string) {
	tb.Helper()
	host, err := Inspect()
	if err != nil {
		tb.Fatal(err)
	}
	if host.Version != 1 {
		tb.Skip("this host has cgroup v2: these tests read v1's files")
	}
	if c, err = New(Config{Driver: DriverCgroupfs}); err != nil {
		tb.Fatal(err)
	}
	parent = fmt.Sprintf("/vmlet-test-%d/pod%x", os.Getpid(), len(tb.Name()))
	tb.Cleanup(func() {
		for name, root := range c.roots {
			if err := cgroups.RemovePath(filepath.Join(root, filepath.Dir(parent))); err != nil {
				tb.Errorf("%s: %v", name, err)
			}
		}
	})
	dir := filepath.Join(c.roots["memory"], parent)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		tb.Fatal(err)
	}
	if memory != 0 {
		if err := os.WriteFile(filepath.Join(dir, "memory.limit_in_bytes"), []byte(strconv.FormatInt(memory, 10)), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	return c, parent
}

func TestCgroupsKeepTheContract(t *testing.T) {
	lifecycletest.RunCgroups(t, func(t *testing.T) lifecycletest.CgroupsEnv {
		t.Helper()
		c, parent := newParent(t, 0)
		children := map[int]child{}
		return lifecycletest.CgroupsEnv{
			Cgroups: c,
			Parent:  parent,
			Start: func() int {
				started := startChild(t)
				children[started.pid()] = started
				return started.pid()
			},
			Use: func(pid int) { children[pid].use(t, 16) },
			End: func(pid int) { children[pid].kill() },
			Alive: func(pid int) bool {
				return syscall.Kill(pid, 0) == nil
			},
		}
	})
}

func (c *Cgroups) file(tb testing.TB, controller, parent, name string) string {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join(c.roots[controller], parent, name))
	if err != nil {
		tb.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

func TestLimitsReachTheKernel(t *testing.T) {
	c, parent := newParent(t, 0)
	res := vm.Resources{
		CPUShares: 512, CPUPeriod: 50000, CPUQuota: 25000, CpusetCPUs: "0",
		MemoryLimit: 64 * vm.MiB, MemorySwapLimit: 128 * vm.MiB,
	}
	if err := c.Create(t.Context(), id, parent, res); err != nil {
		t.Fatal(err)
	}
	leaf := parent + "/vmlet-" + id
	for _, want := range [][3]string{
		{"cpu", "cpu.shares", "512"},
		{"cpu", "cpu.cfs_period_us", "50000"},
		{"cpu", "cpu.cfs_quota_us", "25000"},
		{"cpuset", "cpuset.cpus", "0"},
		// Not asked for, yet without it no task can enter.
		{"cpuset", "cpuset.mems", c.file(t, "cpuset", "/", "cpuset.mems")},
		{"memory", "memory.limit_in_bytes", strconv.FormatInt(64*vm.MiB, 10)},
		{"memory", "memory.memsw.limit_in_bytes", strconv.FormatInt(128*vm.MiB, 10)},
	} {
		if got := c.file(t, want[0], leaf, want[1]); got != want[2] {
			t.Errorf("%s is %q, want %q", want[1], got, want[2])
		}
	}
}

func TestALimitThatTheKernelRefusesLeavesNoGroup(t *testing.T) {
	c, parent := newParent(t, 0)
	// The sum with swap cannot be less than the memory alone.
	res := vm.Resources{MemoryLimit: 64 * vm.MiB, MemorySwapLimit: 32 * vm.MiB}
	if err := c.Create(t.Context(), id, parent, res); err == nil {
		t.Fatal("no error")
	}
	for name, root := range c.roots {
		if _, err := os.Stat(filepath.Join(root, parent, "vmlet-"+id)); err == nil {
			t.Errorf("a group is left in hierarchy %q", name)
		}
	}
}

func TestPlaceMovesAllThreadsInAllHierarchies(t *testing.T) {
	c, parent := newParent(t, 0)
	hog := startChild(t)
	if err := c.Create(t.Context(), id, parent, vm.Resources{}); err != nil {
		t.Fatal(err)
	}
	if err := c.Place(t.Context(), id, parent, hog.pid()); err != nil {
		t.Fatal(err)
	}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/cgroup", hog.pid()))
	if err != nil || len(tasks) < 4 {
		t.Fatalf("threads %v, %v", tasks, err)
	}
	for _, task := range tasks {
		in, err := cgroups.ParseCgroupFile(task)
		if err != nil {
			t.Fatal(err)
		}
		for name := range c.roots {
			if got, want := in[name], parent+"/vmlet-"+id; got != want {
				t.Errorf("%s: %s is %s, want %s", task, name, got, want)
			}
		}
	}
	hog.kill()
	if err := c.Remove(t.Context(), id, parent); err != nil {
		t.Error(err)
	}
}

func TestPlaceAdjustsTheOOMScore(t *testing.T) {
	c, parent := newParent(t, 0)
	for _, score := range []int64{0, 968, -997} {
		hog := startChild(t)
		if err := c.Create(t.Context(), id, parent, vm.Resources{OOMScoreAdj: score}); err != nil {
			t.Fatal(err)
		}
		if err := c.Place(t.Context(), id, parent, hog.pid()); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", hog.pid()))
		want := strconv.FormatInt(score, 10)
		if score < 0 && os.WriteFile("/proc/self/oom_score_adj", []byte("-1"), 0) != nil {
			want = "0" // this machine's root may not either
		}
		if err != nil || strings.TrimSpace(string(got)) != want {
			t.Errorf("%q, %v; want %s", got, err, want)
		}
		hog.kill()
		if err := c.Remove(t.Context(), id, parent); err != nil {
			t.Error(err)
		}
	}
}

// The kernel counts a kill in the victim's own group, whichever group's limit was hit. If
// that were not so, the kills would have to be looked for in the pod's group.
func TestKillsForLackOfMemoryAreCountedInTheLeaf(t *testing.T) {
	for name, tc := range map[string]struct{ pod, leaf int64 }{
		"by the pod's limit": {pod: 64 * vm.MiB},
		"by its own limit":   {leaf: 64 * vm.MiB},
	} {
		t.Run(name, func(t *testing.T) {
			c, parent := newParent(t, tc.pod)
			hog := startChild(t)
			if err := c.Create(t.Context(), id, parent, vm.Resources{MemoryLimit: tc.leaf}); err != nil {
				t.Fatal(err)
			}
			if err := c.Place(t.Context(), id, parent, hog.pid()); err != nil {
				t.Fatal(err)
			}
			if _, err := fmt.Fprintln(hog.stdin, 0); err != nil {
				t.Fatal(err)
			}
			if state, err := hog.cmd.Process.Wait(); err != nil || state.String() != "signal: killed" {
				t.Fatalf("the process ended with %v, %v", state, err)
			}
			usage, err := c.Usage(t.Context(), id, parent)
			if err != nil {
				t.Fatal(err)
			}
			if usage.OOMKills != 1 || usage.CPUUsage == 0 || usage.PageFaults == 0 {
				t.Errorf("got %+v", usage)
			}
			if podCounts := c.file(t, "memory", parent, "memory.oom_control"); !strings.Contains(podCounts, "oom_kill 0") {
				t.Errorf("the pod's group counts: %s", podCounts)
			}
			if err := c.Remove(t.Context(), id, parent); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestUsageCountsWhatAProcessTouches(t *testing.T) {
	c, parent := newParent(t, 0)
	hog := startChild(t)
	if err := c.Create(t.Context(), id, parent, vm.Resources{}); err != nil {
		t.Fatal(err)
	}
	if err := c.Place(t.Context(), id, parent, hog.pid()); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintln(hog.stdin, 0); err != nil {
		t.Fatal(err)
	}
	// It ends after 1 GiB; before, it can be seen to grow.
	var usage vm.CgroupUsage
	for usage.RSS < uint64(100*vm.MiB) {
		var err error
		if usage, err = c.Usage(t.Context(), id, parent); err != nil {
			t.Fatal(err)
		}
	}
	if usage.WorkingSet > usage.MemoryUsage || usage.MemoryUsage < usage.RSS || usage.PIDs < 4 {
		t.Errorf("got %+v", usage)
	}
	hog.kill()
	if err := c.Remove(t.Context(), id, parent); err != nil {
		t.Error(err)
	}
}

func TestRemoveRightAfterAKillSucceeds(t *testing.T) {
	c, parent := newParent(t, 0)
	for range 20 {
		hog := startChild(t)
		if err := c.Create(t.Context(), id, parent, vm.Resources{}); err != nil {
			t.Fatal(err)
		}
		if err := c.Place(t.Context(), id, parent, hog.pid()); err != nil {
			t.Fatal(err)
		}
		// Killed, and not waited for.
		if err := hog.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := c.Remove(t.Context(), id, parent); err != nil {
			t.Fatal(err)
		}
		hog.kill()
	}
}

func TestRemoveEndsWithItsContext(t *testing.T) {
	c, parent := newParent(t, 0)
	hog := startChild(t)
	if err := c.Create(t.Context(), id, parent, vm.Resources{}); err != nil {
		t.Fatal(err)
	}
	if err := c.Place(t.Context(), id, parent, hog.pid()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Remove(ctx, id, parent); err == nil || !strings.Contains(err.Error(), "canceled") {
		t.Errorf("got %v", err)
	}
	hog.kill()
	if err := c.Remove(t.Context(), id, parent); err != nil {
		t.Error(err)
	}
}

func TestCallsLeaveNoFileOpen(t *testing.T) {
	c, parent := newParent(t, 0)
	round := func() {
		if err := c.Create(t.Context(), id, parent, vm.Resources{}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Usage(t.Context(), id, parent); err != nil {
			t.Fatal(err)
		}
		if err := c.Remove(t.Context(), id, parent); err != nil {
			t.Fatal(err)
		}
	}
	round() // the library opens the mount once
	before := openFiles(t)
	for range 50 {
		round()
	}
	if after := openFiles(t); after > before {
		t.Errorf("%d files are open, %d were", after, before)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func BenchmarkUsage(b *testing.B) {
	c, parent := newParent(b, 0)
	if err := c.Create(b.Context(), id, parent, vm.Resources{}); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := c.Usage(b.Context(), id, parent); err != nil {
			b.Fatal(err)
		}
	}
	if err := c.Remove(b.Context(), id, parent); err != nil {
		b.Fatal(err)
	}
}

func TestLimitsThatTheKernelRefusesAreAsTheyWere(t *testing.T) {
	c, parent := newParent(t, 0)
	from := vm.Resources{CPUShares: 512, CPUPeriod: 100000}
	if err := c.Create(t.Context(), id, parent, from); err != nil {
		t.Fatal(err)
	}
	hog := startChild(t)
	if err := c.Place(t.Context(), id, parent, hog.pid()); err != nil {
		t.Fatal(err)
	}
	leaf := parent + "/vmlet-" + id
	look := func() (values []string) {
		for _, f := range [][2]string{
			{"cpuset", "cpuset.cpus"}, {"memory", "memory.limit_in_bytes"}, {"cpu", "cpu.shares"}, {"cpu", "cpu.cfs_quota_us"}, {"cpu", "cpu.cfs_period_us"},
		} {
			values = append(values, c.file(t, f[0], leaf, f[1]))
		}
		score, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", hog.pid()))
		if err != nil {
			t.Fatal(err)
		}
		return append(values, string(score))
	}
	was := look()
	// The kernel takes the CPUs, the memory and the shares, and then no such period.
	to := vm.Resources{CpusetCPUs: "0", MemoryLimit: 256 * vm.MiB, CPUShares: 256, CPUQuota: 50000, CPUPeriod: 5, OOMScoreAdj: 100}
	if err := c.Update(t.Context(), id, parent, from, to); err == nil {
		t.Error("no error")
	}
	if got := look(); !slices.Equal(got, was) {
		t.Errorf("it has %v, had %v", got, was)
	}
	to.CPUPeriod = 100000
	if err := c.Update(t.Context(), id, parent, from, to); err != nil {
		t.Fatal(err)
	}
	if got, want := look(), []string{"0", "268435456", "256", "50000", "100000", "100\n"}; !slices.Equal(got, want) {
		t.Errorf("it has %v, want %v", got, want)
	}
	hog.kill()
	if err := c.Remove(t.Context(), id, parent); err != nil {
		t.Error(err)
	}
}
