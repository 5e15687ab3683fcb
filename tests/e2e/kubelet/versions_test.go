// SPDX-License-Identifier: Apache-2.0

//go:build integration

package kubelet

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/vmlet/vmlet/tests/harness"
)

// TestTheOldestKubelet: a pod becomes Ready, is asked, and goes.
func TestTheOldestKubelet(t *testing.T) {
	node := harness.StartNode(t)
	k := harness.StartOldKubelet(t, node)
	if log := k.LogTail(1000); !strings.Contains(log, "v1.26.") {
		t.Error("kubelet does not say that it is 1.26")
	}
	k.Apply("plain", plainPod("plain"))
	pod := k.WaitReady("plain")
	if pod.Status.PodIP == "" || pod.VM().RestartCount != 0 {
		t.Errorf("%+v", pod.Status)
	}
	if boot := bootID(t, k, "plain"); len(boot) != 36 {
		t.Errorf("boot ID %q", boot)
	}
	k.Delete("plain")
	k.WaitGone("plain")
}

// TestAKubeletWithAnotherCgroupDriver: kubelet takes the driver that vmlet names, whatever its own configuration says,
// so that the pod's group which vmlet is given is one that it finds.
func TestAKubeletWithAnotherCgroupDriver(t *testing.T) {
	node := harness.StartNode(t)
	k := harness.StartKubelet(t, node, harness.WithKubeletConfig("cgroupDriver: systemd"))
	if log := k.LogTail(1000); !strings.Contains(log, `cgroupDriver="cgroupfs"`) {
		t.Error("kubelet does not say that it takes the runtime's driver")
	}
	k.Apply("driven", plainPod("driven"))
	uid := k.WaitReady("driven").Metadata.UID
	if group := qemuGroup(t, k, "driven"); !strings.Contains(group, "/kubepods/besteffort/pod") {
		t.Errorf("QEMU of pod %s is in %s", uid, group)
	}
}

// TestAKubeletWithoutCgroups: with cgroupsPerQOS off, kubelet makes no groups for pods. VMs have one all the same.
func TestAKubeletWithoutCgroups(t *testing.T) {
	node := harness.StartNode(t)
	k := harness.StartKubelet(t, node, harness.WithKubeletConfig("cgroupsPerQOS: false\nenforceNodeAllocatable: []\ncgroupRoot: \"\""))
	k.Apply("groupless", plainPod("groupless"))
	k.WaitReady("groupless")
	if group := qemuGroup(t, k, "groupless"); !strings.HasSuffix(group, "/vmlet-"+k.Running("groupless").SandboxID) {
		t.Errorf("QEMU is in %s", group)
	}
}

// qemuGroup is the memory group of a pod's QEMU.
func qemuGroup(t *testing.T, k *harness.Kubelet, name string) string {
	t.Helper()
	pids := harness.Processes(t, "qemu-system", k.Running(name).DomainName())
	if len(pids) != 1 {
		t.Fatalf("QEMUs of pod %s: %v", name, pids)
	}
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pids[0]), "cgroup"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if _, group, ok := strings.Cut(line, ":memory:"); ok {
			return strings.TrimSpace(group)
		}
	}
	t.Fatalf("QEMU of pod %s is in no memory group: %s", name, text)
	return ""
}
