// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/tests/harness"
)

// TestHostReboot takes away what a reboot takes: QEMU, network namespaces, /run. Disks
// stay, leases are free, the sandbox is NotReady and the pod's next attempt runs.
func TestHostReboot(t *testing.T) {
	node := harness.StartNode(t)
	pod := node.Run(harness.Pod{Name: "reboot"})
	pod.WaitReady()
	pod.Exec("sh", "-c", "echo kept > /kept && sync")
	rebootHost(t, node, pod)
	st, err := node.PodSandboxStatus(t.Context(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: pod.SandboxID})
	if err != nil || st.GetStatus().GetState() != runtimeapi.PodSandboxState_SANDBOX_NOTREADY {
		t.Errorf("sandbox: %v, %v", st.GetStatus().GetState(), err)
	}
	if got := pod.WaitExited(); got.GetExitCode() == 0 {
		t.Errorf("exit %d %s", got.GetExitCode(), got.GetReason())
	}
	disks, err := filepath.Glob(filepath.Join(node.LibDir, "node", "sandboxes", pod.SandboxID, "root-*.qcow2"))
	if err != nil || len(disks) != 1 {
		t.Errorf("disks: %v, %v", disks, err)
	}
	if leases, err := filepath.Glob(filepath.Join(node.Leases, "*", "[0-9f]*")); err != nil || len(leases) != 0 {
		t.Errorf("leases: %v, %v", leases, err)
	}
	next := node.Run(harness.Pod{Name: "reboot", Attempt: 1})
	next.WaitReady()
}

// rebootHost takes away what a reboot takes: QEMU, network namespaces, /run.
func rebootHost(t *testing.T, node *harness.Node, pod *harness.Running) {
	t.Helper()
	node.Kill9()
	harness.Virsh(t, "destroy", pod.DomainName())
	state := filepath.Join(node.RunDir, "state")
	for _, mount := range []string{filepath.Join(state, "netns", pod.SandboxID), filepath.Join(state, "netns")} {
		if err := unix.Unmount(mount, 0); err != nil {
			t.Fatalf("unmount %s: %v", mount, err)
		}
	}
	if err := os.RemoveAll(state); err != nil {
		t.Fatal(err)
	}
	node.Start()
}

// foreignDomain is somebody else's VM: its name looks like one of ours.
const foreignDomain = `<domain type='qemu'><name>vmlet-foreign</name><memory unit='MiB'>32</memory>
<os><type arch='x86_64' machine='q35'>hvm</type></os></domain>`

// TestForeignDomainsAreNotTouched: a domain that is named like ours and has no mark of ours
// outlives starts, crashes and pods.
func TestForeignDomainsAreNotTouched(t *testing.T) {
	xml := filepath.Join(t.TempDir(), "foreign.xml")
	if err := os.WriteFile(xml, []byte(foreignDomain), 0o600); err != nil {
		t.Fatal(err)
	}
	harness.Virsh(t, "define", xml)
	t.Cleanup(func() { harness.Virsh(t, "undefine", "vmlet-foreign") })
	harness.Virsh(t, "start", "vmlet-foreign")
	t.Cleanup(func() { harness.Virsh(t, "destroy", "vmlet-foreign") })
	node := harness.StartNode(t)
	node.Run(harness.Pod{Name: "mine"})
	node.Kill9()
	node.Start()
	if got := harness.Virsh(t, "domstate", "vmlet-foreign"); got != "running" {
		t.Errorf("the foreign domain is %s", got)
	}
}

// firstRelease holds the records of the first release with a pod whose VM ran.
const firstRelease = "testdata/records-v1.db"

var writeFixture = flag.Bool("write-fixture", false, "write the records of this version into testdata; never after its release")

// TestWriteFixture writes the fixture of TestUpgradeFromAStoredState.
func TestWriteFixture(t *testing.T) {
	if !*writeFixture {
		t.Skip("only when asked by -write-fixture: the file stands for a release that is out")
	}
	node := harness.StartNode(t)
	node.Run(harness.Pod{Name: "of-the-first-release"})
	node.Kill9()
	b, err := os.ReadFile(filepath.Join(node.LibDir, "node", "vmlet.db"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(firstRelease, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestUpgradeFromAStoredState starts this version on the records of the first release,
// then restarts it under a running VM. The old pod, whose VM and network are gone, is
// NotReady with its exit settled, and can be removed.
func TestUpgradeFromAStoredState(t *testing.T) {
	node := harness.NewNode(t)
	root := filepath.Join(node.LibDir, "node")
	if err := os.MkdirAll(root, 0o711); err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile(firstRelease)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "vmlet.db"), old, 0o600); err != nil {
		t.Fatal(err)
	}
	node.Start()
	node.Pull(harness.TinyImage())
	before := pods(t, node)
	if len(before) != 1 || before[0].GetMetadata().GetName() != "of-the-first-release" || before[0].GetState() != runtimeapi.PodSandboxState_SANDBOX_NOTREADY {
		t.Fatalf("the old records became %v", before)
	}
	list, err := node.ListContainers(t.Context(), &runtimeapi.ListContainersRequest{})
	if err != nil || len(list.GetContainers()) != 1 || list.GetContainers()[0].GetState() != runtimeapi.ContainerState_CONTAINER_EXITED {
		t.Errorf("the old container became %v, %v", list.GetContainers(), err)
	}
	pod := node.Run(harness.Pod{Name: "upgraded"})
	boot := pod.WaitReady()
	node.Kill9()
	node.Start()
	if got := pod.BootID(); got != boot {
		t.Errorf("boot ID %s, was %s", got, boot)
	}
	if got := len(pods(t, node)); got != 2 {
		t.Errorf("%d pods, want 2", got)
	}
}

// TestTwoStartsOfTheSamePodAtOnce is two clients that run the same attempt.
func TestTwoStartsOfTheSamePodAtOnce(t *testing.T) {
	node := harness.StartNode(t)
	done := make(chan *harness.Running, 2)
	for range 2 {
		go func() { done <- node.RunSandbox(harness.Pod{Name: "twice"}) }()
	}
	a, b := <-done, <-done
	if a.SandboxID != b.SandboxID {
		t.Errorf("two sandboxes: %s and %s", a.SandboxID, b.SandboxID)
	}
	a.Create()
	errs := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := node.StartContainer(t.Context(), &runtimeapi.StartContainerRequest{ContainerId: a.ContainerID})
			errs <- err
		}()
	}
	for range 2 {
		if err := <-errs; err != nil {
			t.Errorf("start: %v", err)
		}
	}
	if n := strings.Count(harness.Virsh(t, "list", "--name"), a.DomainName()); n != 1 {
		t.Errorf("%d domains run", n)
	}
}

// TestStatsAreTheVMs: what a guest burns and writes is seen, with true times, also per pod.
func TestStatsAreTheVMs(t *testing.T) {
	parent := podCgroup(t)
	node := harness.StartNode(t)
	pod := node.Run(harness.Pod{Name: "busy", Sandbox: func(c *runtimeapi.PodSandboxConfig) { c.Linux.CgroupParent = parent }})
	pod.WaitReady()
	sample := func() *runtimeapi.ContainerStats {
		t.Helper()
		r, err := node.ContainerStats(t.Context(), &runtimeapi.ContainerStatsRequest{ContainerId: pod.ContainerID})
		if err != nil {
			t.Fatal(err)
		}
		return r.GetStats()
	}
	first := sample()
	pod.Exec("sh", "-c", "dd if=/dev/urandom of=/fill bs=64k count=100 2>/dev/null; sync; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done")
	node.Eventually(20*time.Second, func() error {
		s := sample()
		cpu := s.GetCpu().GetUsageCoreNanoSeconds().GetValue() - first.GetCpu().GetUsageCoreNanoSeconds().GetValue()
		disk := s.GetWritableLayer().GetUsedBytes().GetValue()
		switch {
		case cpu < uint64(200*time.Millisecond):
			return fmt.Errorf("%d ns of CPU since the first sample", cpu)
		case disk < 6<<20:
			return fmt.Errorf("the disk has %d bytes", disk)
		case s.GetMemory().GetWorkingSetBytes().GetValue() < 64<<20:
			return fmt.Errorf("working set is %d bytes", s.GetMemory().GetWorkingSetBytes().GetValue())
		}
		return nil
	})
	if age := time.Since(time.Unix(0, sample().GetCpu().GetTimestamp())); age > 30*time.Second || age < 0 {
		t.Errorf("the sample is %s old", age)
	}
	r, err := node.PodSandboxStats(t.Context(), &runtimeapi.PodSandboxStatsRequest{PodSandboxId: pod.SandboxID})
	if err != nil {
		t.Fatal(err)
	}
	if rx := r.GetStats().GetLinux().GetNetwork().GetDefaultInterface().GetRxBytes().GetValue(); rx == 0 {
		t.Errorf("network: %v", r.GetStats().GetLinux().GetNetwork())
	}
	if got := usage(t, parent); got < 64<<20 {
		t.Errorf("the pod's cgroup counts %d bytes: QEMU is not in it", got)
	}
}
