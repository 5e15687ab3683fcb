// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/tests/harness"
)

// TestHowVMsEnd ends guests in every way there is, with vmlet listening. A guest that is not asked need not have booted.
func TestHowVMsEnd(t *testing.T) {
	node := harness.StartNode(t)
	for i, tc := range []struct {
		name   string
		booted bool
		end    func(*testing.T, *harness.Running)
		code   int32
		reason string
	}{
		{"poweroff in the guest", true, func(_ *testing.T, p *harness.Running) { p.ExecDetached("poweroff") }, 0, "Completed"},
		{"panic of the guest", true, func(_ *testing.T, p *harness.Running) { p.ExecDetached("echo c > /proc/sysrq-trigger") }, 1, "GuestPanicked"},
		{"kill -9 of QEMU", true, func(t *testing.T, p *harness.Running) { signalQEMU(t, p, syscall.SIGKILL) }, 137, "Killed"},
		{"SIGTERM to QEMU", false, func(t *testing.T, p *harness.Running) { signalQEMU(t, p, syscall.SIGTERM) }, 143, "Killed"},
		{"virsh destroy", false, func(t *testing.T, p *harness.Running) { harness.Virsh(t, "destroy", p.DomainName()) }, 137, "Killed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			pod := node.Run(harness.Pod{Name: fmt.Sprint("end", i)})
			if tc.booted {
				pod.WaitReady()
			}
			begin := time.Now()
			tc.end(t, pod)
			st := pod.WaitExited()
			if st.GetExitCode() != tc.code || st.GetReason() != tc.reason {
				t.Errorf("exit %d %s (%s), want %d %s", st.GetExitCode(), st.GetReason(), st.GetMessage(), tc.code, tc.reason)
			}
			if at := time.Unix(0, st.GetFinishedAt()); at.Before(begin) || at.After(time.Now()) {
				t.Errorf("finished at %v, not since %v", at, begin)
			}
		})
	}
}

// TestEndsWhileVmletIsAway: how and when is found out afterwards.
func TestEndsWhileVmletIsAway(t *testing.T) {
	for name, tc := range map[string]struct {
		end    func(*testing.T, *harness.Running)
		code   int32
		reason string
	}{
		"poweroff":        {func(_ *testing.T, _ *harness.Running) {}, 0, "Completed"}, // begun below, before vmlet dies
		"kill -9 of QEMU": {func(t *testing.T, p *harness.Running) { signalQEMU(t, p, syscall.SIGKILL) }, 137, "Unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			node := harness.StartNode(t)
			pod := node.Run(harness.Pod{Name: "away"})
			if name == "poweroff" {
				pod.WaitReady()
				pod.ExecDetached("sleep 1; poweroff")
			}
			node.Kill9()
			tc.end(t, pod)
			node.Eventually(time.Minute, func() error {
				if s := harness.Virsh(t, "domstate", pod.DomainName()); s != "shut off" && s != "crashed" {
					return fmt.Errorf("domain is %s", s)
				}
				return nil
			})
			ended := time.Now()
			node.Start()
			st := pod.WaitExited()
			if st.GetExitCode() != tc.code || st.GetReason() != tc.reason {
				t.Errorf("exit %d %s (%s), want %d %s", st.GetExitCode(), st.GetReason(), st.GetMessage(), tc.code, tc.reason)
			}
			if at := time.Unix(0, st.GetFinishedAt()); at.After(ended) || ended.Sub(at) > 30*time.Second {
				t.Errorf("finished at %v, ended before %v", at, ended)
			}
		})
	}
}

// TestOutOfMemory lets the pod's cgroup kill QEMU.
func TestOutOfMemory(t *testing.T) {
	parent := podCgroup(t)
	node := harness.StartNode(t)
	limit := func(controller, file, value string) {
		if err := os.WriteFile(filepath.Join("/sys/fs/cgroup", controller, parent, file), []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pod := node.Run(harness.Pod{
		Name:    "hungry",
		Sandbox: func(c *runtimeapi.PodSandboxConfig) { c.Linux.CgroupParent = parent },
		// More than a boot touches: a host with huge pages has nearly all of a small guest by then, and nothing would be one too many.
		Resources: &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 640 << 20},
	})
	pod.WaitReady()
	if !strings.Contains(qemuCgroup(t, pod, "memory"), parent) {
		t.Fatalf("QEMU is in %s, not below %s", qemuCgroup(t, pod, "memory"), parent)
	}
	// A little more than QEMU has by now; what can be reclaimed is soon gone.
	limit("memory", "memory.limit_in_bytes", strconv.Itoa(usage(t, parent)+4<<20))
	go func() {
		// The guest touches memory it had not before.
		_, _ = node.ExecSync(t.Context(), &runtimeapi.ExecSyncRequest{ContainerId: pod.ContainerID, Timeout: 110, //nolint:errcheck // it dies with the guest
			Cmd: []string{"sh", "-c", "mkdir -p /m && mount -t tmpfs -o size=90% none /m && dd if=/dev/zero of=/m/fill bs=1M count=300"}})
	}()
	st := pod.WaitExited()
	if st.GetExitCode() != 137 || st.GetReason() != "OOMKilled" {
		t.Errorf("exit %d %s (%s)", st.GetExitCode(), st.GetReason(), st.GetMessage())
	}
}

func usage(t *testing.T, parent string) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("/sys/fs/cgroup/memory", parent, "memory.usage_in_bytes"))
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// podCgroup makes a pod's cgroup as kubelet does, in every hierarchy, until the test ends.
// Call it before the node is started: clean-ups run last first.
func podCgroup(t *testing.T) string {
	t.Helper()
	parent := "/vmlet-test-" + strconv.Itoa(os.Getpid()) + "-" + strings.ReplaceAll(t.Name(), "/", "-")
	harness.MakeCgroups(t, parent)
	t.Cleanup(func() {
		// Also in the hierarchies that only vmlet made a group in. What is left below one is a leak.
		groups, err := filepath.Glob("/sys/fs/cgroup/*" + parent)
		if err != nil {
			t.Error(err)
		}
		for _, group := range groups {
			if err := os.Remove(group); err != nil {
				t.Errorf("the pod's cgroup cannot be removed: %v", err)
			}
		}
	})
	return parent
}

// qemuPID finds the pod's QEMU by the UUID on its command line.
func qemuPID(t *testing.T, p *harness.Running) int {
	t.Helper()
	id := p.SandboxID
	uuid := strings.Join([]string{id[:8], id[8:12], id[12:16], id[16:20], id[20:]}, "-")
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		cmdline, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err == nil && strings.Contains(string(cmdline), "-uuid\x00"+uuid) {
			pid, err := strconv.Atoi(e.Name())
			if err != nil {
				t.Fatal(err)
			}
			return pid
		}
	}
	t.Fatalf("no QEMU has the UUID %s", uuid)
	return 0
}

func signalQEMU(t *testing.T, p *harness.Running, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(qemuPID(t, p), sig); err != nil {
		t.Fatal(err)
	}
}

// qemuCgroup is the group that QEMU is in, of one controller.
func qemuCgroup(t *testing.T, p *harness.Running, controller string) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", qemuPID(t, p)))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.SplitN(strings.TrimSpace(line), ":", 3); len(f) == 3 && strings.Contains(","+f[1]+",", ","+controller+",") {
			return f[2]
		}
	}
	t.Fatalf("QEMU is in no %s group: %s", controller, b)
	return ""
}
