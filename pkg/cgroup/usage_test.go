// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/fs"
	"github.com/opencontainers/cgroups/fs2"

	"github.com/vmlet/vmlet/pkg/vm"
)

// emulate makes a folder that the library takes for a cgroup.
func emulate(t *testing.T, dir string, files map[string]string) string {
	t.Helper()
	cgroups.TestMode = true
	t.Cleanup(func() { cgroups.TestMode = false })
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

var v2Files = map[string]string{
	"cpu.stat":       "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\n",
	"memory.stat":    "anon 4096\nfile 8192\ninactive_file 3000\npgfault 7\npgmajfault 2\n",
	"memory.current": "20000\n", "memory.max": "1048576\n", "memory.swap.current": "0\n", "memory.swap.max": "max\n",
	"memory.events": "low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\n",
	"pids.current":  "12\n", "pids.max": "max\n",
	"cgroup.procs": "",
}

func v2Group(t *testing.T, dir string) group {
	t.Helper()
	m, err := fs2.NewManager(&cgroups.Cgroup{Resources: &cgroups.Resources{}}, dir)
	if err != nil {
		t.Fatal(err)
	}
	return group{manager: m, dir: dir}
}

func TestUsageOnV2(t *testing.T) {
	usage, err := read(v2Group(t, emulate(t, t.TempDir(), v2Files)))
	if err != nil {
		t.Fatal(err)
	}
	want := vm.CgroupUsage{
		CPUUsage: 1500000, MemoryUsage: 20000, WorkingSet: 17000, RSS: 4096,
		PageFaults: 7, MajorFaults: 2, MemoryLimit: 1048576, OOMKills: 1, PIDs: 12,
	}
	if diff := cmp.Diff(want, usage, cmpopts.IgnoreFields(vm.CgroupUsage{}, "At")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if time.Since(usage.At).Abs() > time.Minute {
		t.Errorf("taken at %v", usage.At)
	}
}

func TestUsageOnV2WithoutALimit(t *testing.T) {
	files := maps.Clone(v2Files)
	files["memory.max"] = "max\n"
	usage, err := read(v2Group(t, emulate(t, t.TempDir(), files)))
	if err != nil || usage.MemoryLimit != 0 {
		t.Errorf("got %+v, %v", usage, err)
	}
}

func TestWorkingSetIsNotBelowZero(t *testing.T) {
	var s cgroups.Stats
	s.MemoryStats.Stats = map[string]uint64{"inactive_file": 10}
	s.MemoryStats.Usage.Usage = 5
	if u := usageOf(&s, 0, time.Now()); u.WorkingSet != 0 {
		t.Errorf("got %d", u.WorkingSet)
	}
}

func TestAGroupThatGoesWhileItIsReadIsNotFound(t *testing.T) {
	// v1 of the library reads an absent group as zeros.
	dir := filepath.Join(t.TempDir(), "gone")
	emulate(t, t.TempDir(), nil)
	paths := map[string]string{"memory": dir, "cpu": dir, "cpuacct": dir, "pids": dir}
	m, err := fs.NewManager(&cgroups.Cgroup{Resources: &cgroups.Resources{}}, paths)
	if err != nil {
		t.Fatal(err)
	}
	if u, err := read(group{manager: m, dir: dir}); !gone(err) {
		t.Errorf("got %+v, %v", u, err)
	}
}

func TestKillsOfAScopeThatIsGoneAreToldByThePod(t *testing.T) {
	const id = "a"
	root := t.TempDir()
	pod := filepath.Join(root, "pod.slice")
	leaf := filepath.Join(pod, "vmlet-a.scope")
	c := newCgroups(DriverSystemd, map[string]string{"": root})

	// Given a pod that counted two kills of earlier VMs, and a leaf that counted one of its own.
	emulate(t, pod, map[string]string{"memory.events": "oom_kill 3\n"})
	g := v2Group(t, emulate(t, leaf, v2Files))
	usage, err := read(g)
	if err != nil {
		t.Fatal(err)
	}
	c.rememberKills(id, g, usage.OOMKills)

	// When QEMU is killed once more, and systemd removes the scope,
	emulate(t, pod, map[string]string{"memory.events": "oom_kill 4\n"})
	if err := os.RemoveAll(leaf); err != nil {
		t.Fatal(err)
	}

	// then the leaf's kills are two.
	usage, err = c.lastKills(id, g)
	if err != nil || usage.OOMKills != 2 {
		t.Errorf("got %+v, %v", usage, err)
	}
	if u, err := c.lastKills("other", g); !errdefs.IsNotFound(err) {
		t.Errorf("of a sandbox that was never read: %+v, %v", u, err)
	}
	direct := newCgroups(DriverCgroupfs, c.roots)
	direct.rememberKills(id, g, 1)
	if u, err := direct.lastKills(id, g); !errdefs.IsNotFound(err) {
		t.Errorf("a leaf in cgroupfs goes by our hand only: %+v, %v", u, err)
	}
}
