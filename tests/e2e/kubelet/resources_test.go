// SPDX-License-Identifier: Apache-2.0

//go:build integration

package kubelet

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/tests/harness"
)

const guaranteed = `apiVersion: v1
kind: Pod
metadata: {name: guaranteed, uid: 9f7d4f0e-3a55-4d0c-8a39-5a1f2c8f5b21}
spec:
  terminationGracePeriodSeconds: 5
  volumes: [{name: data, emptyDir: {}}]
  containers:
  - name: vm
    image: IMAGE
    resources: {limits: {cpu: "1", memory: 400Mi}}
    resizePolicy: [{resourceName: memory, restartPolicy: RestartContainer}]
    volumeMounts: [{name: data, mountPath: /data}]
`

const greedy = `apiVersion: v1
kind: Pod
metadata: {name: greedy, annotations: {vmlet.io/memory: 256Mi}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 5
  containers:
  - name: vm
    image: IMAGE
`

// TestResourcesThroughKubelet: pods of all three classes side by side.
func TestResourcesThroughKubelet(t *testing.T) {
	node := harness.StartNode(t)
	k := harness.StartKubelet(t, node)
	// One after another: beside the others the greedy one would be the last to get any CPU time.
	k.Apply("guaranteed", guaranteed)
	k.WaitLog("guaranteed", "READY")
	k.ApplyFile("resizable")
	k.WaitLog("resizable", "READY")
	k.Apply("greedy", greedy)
	k.WaitLog("greedy", "READY")

	t.Run("QEMU and its helpers are in the pod's cgroup in every hierarchy", func(t *testing.T) { inTheirCgroups(t, k) })
	t.Run("limits and overhead of the VM's group are the pod's", func(t *testing.T) { limitedAsThePod(t, k) })
	t.Run("a guest that fills its memory is not killed for QEMU's own", func(t *testing.T) { fillTheGuest(t, k) })
	t.Run("the pod's usage is its VM's", func(t *testing.T) { usedByThePod(t, k) })
	t.Run("limits change under a running VM", func(t *testing.T) { resizeInPlace(t, k) })
	t.Run("limits that need another machine are refused and change nothing", func(t *testing.T) { resizeRefused(t, k) })
	t.Run("limits that come with a restart are another machine's", func(t *testing.T) { resizeByRestart(t, k) })
	t.Run("eviction takes the greedy pod, and its guest shuts down", func(t *testing.T) { evictTheGreedy(t, k) })
}

// leaf is the VM's own group in one of the hierarchies of its pod.
func leaf(k *harness.Kubelet, name, hierarchy string) string {
	return filepath.Join(k.PodCgroups(name)[hierarchy], "vmlet-"+k.Running(name).SandboxID)
}

func inTheirCgroups(t *testing.T, k *harness.Kubelet) {
	t.Helper()
	for name, class := range map[string]string{"guaranteed": "kubepods/pod", "resizable": "kubepods/burstable/pod", "greedy": "kubepods/besteffort/pod"} {
		vm := k.Running(name)
		pids := harness.Processes(t, "guest="+vm.DomainName())
		if len(pids) != 1 {
			t.Errorf("%s: processes %v are QEMU's", name, pids)
		}
		helpers := harness.Processes(t, "virtiofsd", vm.SandboxID)
		if name == "guaranteed" && len(helpers) != 2 {
			t.Errorf("processes %v are virtiofsd's", helpers)
		}
		groups := k.PodCgroups(name)
		for hierarchy, dir := range groups {
			if !strings.Contains(dir, class) {
				t.Errorf("%s is at %s", name, dir)
			}
			placed, err := os.ReadFile(filepath.Join(dir, "vmlet-"+vm.SandboxID, "cgroup.procs"))
			if err != nil {
				t.Errorf("%s: %v", hierarchy, err)
			}
			for _, pid := range slices.Concat(pids, helpers) {
				if !slices.Contains(strings.Fields(string(placed)), strconv.Itoa(pid)) {
					t.Errorf("%s: process %d is not in the group of %s, %s has", hierarchy, pid, name, placed)
				}
			}
		}
		for _, hierarchy := range []string{"cpu", "cpuacct", "cpuset", "memory", "pids"} {
			if groups[hierarchy] == "" {
				t.Errorf("%s has no group of kubelet's in %s", name, hierarchy)
			}
		}
	}
}

// limitedAsThePod: the group of the VM has the container's limits and the pod's overhead, which together are what kubelet
// gives the pod; and with an overhead all of the limit is the guest's.
func limitedAsThePod(t *testing.T, k *harness.Kubelet) {
	t.Helper()
	for _, want := range []struct {
		name, hierarchy, file string
		value                 int64
	}{
		{"guaranteed", "memory", "memory.limit_in_bytes", 400 * mib},
		{"guaranteed", "cpu", "cpu.cfs_quota_us", 100000},
		{"guaranteed", "cpu", "cpu.shares", 1024},
		{"resizable", "memory", "memory.limit_in_bytes", 460 * mib},
		{"resizable", "cpu", "cpu.cfs_quota_us", 75000},
		{"greedy", "cpu", "cpu.cfs_quota_us", -1},
	} {
		for what, dir := range map[string]string{"the pod": k.PodCgroups(want.name)[want.hierarchy], "the VM": leaf(k, want.name, want.hierarchy)} {
			if got := harness.CgroupValue(t, dir, want.file); got != want.value {
				t.Errorf("%s of %s: %s is %d, want %d", what, want.name, want.file, got, want.value)
			}
		}
	}
	// What the kernel and its page tables take is not in MemTotal.
	if total := guestMemory(t, k, "resizable"); total < 250*mib || total > 300*mib {
		t.Errorf("the guest has %d MiB", total/mib)
	}
}

func guestMemory(t *testing.T, k *harness.Kubelet, name string) int64 {
	t.Helper()
	kib, err := strconv.ParseInt(k.Running(name).Exec("awk", "/MemTotal/ { print $2 }", "/proc/meminfo"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// fill has a guest write to all its memory but so many MiB.
func fill(k *harness.Kubelet, name string, less int) {
	k.Running(name).Exec("sh", "-c", fmt.Sprintf(`mkdir -p /tmp/fill && mount -t tmpfs -o size=100%% none /tmp/fill &&
dd if=/dev/zero of=/tmp/fill/all bs=1M count=$(awk '/MemAvailable/ { print int($2 / 1024) - %d }' /proc/meminfo) && sync`, less))
}

func fillTheGuest(t *testing.T, k *harness.Kubelet) {
	t.Helper()
	fill(k, "guaranteed", 24)
	k.Running("guaranteed").Exec("sh", "-c", "dd if=/dev/zero of=/data/file bs=1M count=16 && sync && rm /data/file")
	pod, err := k.Pod("guaranteed")
	if err != nil || pod.VM().RestartCount != 0 || pod.VM().State.Running == nil {
		t.Errorf("the VM is %+v, %v", pod.VM(), err)
	}
	group := leaf(k, "guaranteed", "memory")
	peak := harness.CgroupValue(t, group, "memory.max_usage_in_bytes")
	t.Logf("the group's peak is %d MiB of 400", peak/mib)
	if peak < guestMemory(t, k, "guaranteed") {
		t.Errorf("the guest was not filled")
	}
	if kills, err := os.ReadFile(filepath.Join(group, "memory.oom_control")); err != nil || !strings.Contains(string(kills), "oom_kill 0") {
		t.Errorf("%s, %v", kills, err)
	}
}

// usedByThePod: the usage of the pod's group, which kubelet's cAdvisor reads every now and then, is that of the VM's.
func usedByThePod(t *testing.T, k *harness.Kubelet) {
	t.Helper()
	for _, name := range []string{"guaranteed", "resizable"} {
		k.Node.Eventually(2*time.Minute, func() error {
			stats := k.Stats(name, time.Time{})
			pod, vm := float64(stats.Memory.WorkingSetBytes), float64(stats.VM().Memory.WorkingSetBytes)
			if vm == 0 || math.Abs(pod-vm) > 16*mib {
				time.Sleep(time.Second)
				return fmt.Errorf("pod %s uses %.0f MiB, its VM %.0f MiB", name, pod/mib, vm/mib)
			}
			return nil
		})
	}
}

// resized is the manifest of the documentation with other limits.
func resized(t *testing.T, memory, cpu string) string {
	t.Helper()
	text, err := os.ReadFile("../../../docs/kubelet/resizable.yaml")
	if err != nil {
		t.Fatal(err)
	}
	limits := regexp.MustCompile(`limits: .*`)
	return strings.ReplaceAll(limits.ReplaceAllString(string(text), fmt.Sprintf("limits: {memory: %s, cpu: %q}", memory, cpu)), "registry.example/tiny:1", "IMAGE")
}

// waitLimits waits until pod and VM have limits, given without the overhead of 160 MiB and 250m.
func waitLimits(k *harness.Kubelet, memory, quota int64) {
	k.Node.Eventually(time.Minute, func() error {
		for _, dirs := range [][2]string{
			{k.PodCgroups("resizable")["memory"], k.PodCgroups("resizable")["cpu"]},
			{leaf(k, "resizable", "memory"), leaf(k, "resizable", "cpu")},
		} {
			m, err := os.ReadFile(filepath.Join(dirs[0], "memory.limit_in_bytes"))
			if err != nil {
				return err
			}
			q, err := os.ReadFile(filepath.Join(dirs[1], "cpu.cfs_quota_us"))
			if err != nil {
				return err
			}
			if string(m) != fmt.Sprintln(memory+160*mib) || string(q) != fmt.Sprintln(quota+25000) {
				return fmt.Errorf("%s: limit %s quota %s", dirs[0], m, q)
			}
		}
		return nil
	})
}

// resizeInPlace: kubelet takes a changed manifest for the same pod where that has a UID of its own, and resizes it as if
// the API server had told it.
func resizeInPlace(t *testing.T, k *harness.Kubelet) {
	t.Helper()
	boot := k.Running("resizable").BootID()
	k.Apply("resizable", resized(t, "300Mi", "900m"))
	waitLimits(k, 300*mib, 90000)
	k.Apply("resizable", resized(t, "380Mi", "400m"))
	waitLimits(k, 380*mib, 40000)
	told := func() *runtimeapi.LinuxContainerResources {
		return k.Running("resizable").Status().GetResources().GetLinux()
	}
	if r := told(); r.GetCpuQuota() != 40000 || r.GetMemoryLimitInBytes() != 380*mib {
		t.Errorf("the container's status has %v", r)
	}
	k.Node.Kill9()
	k.Node.Start()
	waitLimits(k, 380*mib, 40000)
	if r := told(); r.GetCpuQuota() != 40000 || r.GetMemoryLimitInBytes() != 380*mib {
		t.Errorf("after a restart the container's status has %v", r)
	}
	pod, err := k.Pod("resizable")
	if err != nil || pod.VM().RestartCount != 0 || k.Running("resizable").BootID() != boot {
		t.Errorf("the guest did not run on: %+v, %v", pod.VM(), err)
	}
}

func resizeRefused(t *testing.T, k *harness.Kubelet) {
	t.Helper()
	for limits, says := range map[[2]string]string{
		{"380Mi", "3"}:    "the guest has 1 CPUs and cannot have 3",
		{"280Mi", "400m"}: "the guest has 300 MiB of memory, and there would only be room for 280 MiB",
	} {
		k.Apply("resizable", resized(t, limits[0], limits[1]))
		k.WaitPod("resizable", func(p *harness.KubePod) error {
			for _, c := range p.Status.Conditions {
				if c.Type == "PodResizeInProgress" && strings.Contains(c.Message, says) {
					return nil
				}
			}
			return fmt.Errorf("no condition says %q: %+v", says, p.Status.Conditions)
		})
		waitLimits(k, 380*mib, 40000)
	}
	k.Apply("resizable", resized(t, "380Mi", "400m"))
	k.WaitPod("resizable", func(p *harness.KubePod) error {
		if c := p.Condition("PodResizeInProgress"); c != "" {
			return fmt.Errorf("the resize is in progress: %s", c)
		}
		return nil
	})
}

func resizeByRestart(t *testing.T, k *harness.Kubelet) {
	t.Helper()
	before := guestMemory(t, k, "guaranteed")
	k.Apply("guaranteed", strings.ReplaceAll(guaranteed, "400Mi", "500Mi"))
	k.WaitRestarts("guaranteed", 1)
	k.WaitLog("guaranteed", "READY")
	more := guestMemory(t, k, "guaranteed") - before
	if more < 90*mib || more > 100*mib {
		t.Errorf("the guest has %d MiB more", more/mib)
	}
	if got := harness.CgroupValue(t, leaf(k, "guaranteed", "memory"), "memory.limit_in_bytes"); got != 500*mib {
		t.Errorf("the group's limit is %d MiB", got/mib)
	}
}

var ranked = regexp.MustCompile(`pods ranked for eviction" pods=\["default/([a-z]+)-node1"`)

// evictTheGreedy: under memory pressure (a threshold above all that the node has) kubelet ranks the pods by what it knows
// of their VMs. It then evicts no static pod, since these are critical to it; so the call that it would make next is made
// here: StopContainer with the grace of a soft eviction (evictionMaxPodGracePeriod).
func evictTheGreedy(t *testing.T, k *harness.Kubelet) {
	t.Helper()
	fill(k, "greedy", 64)
	k.Reconfigure(`evictionHard: {memory.available: "99%", nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%"}`)
	k.Node.Eventually(2*time.Minute, func() error {
		log, err := os.ReadFile(k.LogFile())
		if err != nil {
			return err
		}
		_, log2, found := strings.Cut(string(log), "attempting to reclaim\" resourceName=\"memory\"")
		first := ranked.FindStringSubmatch(log2)
		if !found || first == nil || !strings.Contains(log2, `cannot evict a critical pod" pod="default/greedy-node1"`) {
			return fmt.Errorf("kubelet evicts nobody yet: %v", first)
		}
		if first[1] != "greedy" {
			t.Fatalf("kubelet would evict %s first", first[1])
		}
		return nil
	})
	vm := k.Running("greedy")
	if _, err := k.Node.StopContainer(t.Context(), &runtimeapi.StopContainerRequest{ContainerId: vm.ContainerID, Timeout: 30}); err != nil {
		t.Fatal(err)
	}
	if st := vm.Status(); st.GetExitCode() != 0 || st.GetReason() != "Completed" {
		t.Errorf("the guest did not shut down: exit code %d, %s: %s", st.GetExitCode(), st.GetReason(), st.GetMessage())
	}
	k.WaitPhase("greedy", "Succeeded")
}
