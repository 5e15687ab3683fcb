// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
	"github.com/vmlet/vmlet/tests/harness"
)

// What pods ask of their root disks.
var (
	freshDisk      = map[string]string{"vmlet.io/root-disk": "fresh"}
	persistentDisk = map[string]string{"vmlet.io/root-disk": "persistent"}
	claimedDisk    = map[string]string{"vmlet.io/root-disk": "persistent", "vmlet.io/root-disk-claim": "data"}
)

// remember has the guest write a file that a look at its disk will find.
func remember(pod *harness.Running) {
	pod.WaitReady()
	pod.Exec("sh", "-c", "echo kept > /kept && sync")
}

// remembers tells whether the guest finds the file.
func remembers(pod *harness.Running) bool {
	pod.WaitReady()
	return pod.Exec("sh", "-c", "cat /kept 2>/dev/null || echo forgotten") == "kept"
}

// TestRootDisksOfOneSandbox restarts containers: a fresh disk forgets, the sandbox's does not.
func TestRootDisksOfOneSandbox(t *testing.T) {
	for name, tc := range map[string]struct {
		asks  map[string]string
		keeps bool
	}{"fresh": {freshDisk, false}, "sandbox": {nil, true}} {
		t.Run(name, func(t *testing.T) {
			node := harness.StartNode(t)
			pod := node.Run(harness.Pod{Name: name, Annotations: tc.asks})
			remember(pod)
			stop(t, node, pod.ContainerID, 0)
			pod.Create()
			pod.Start()
			if got := remembers(pod); got != tc.keeps {
				t.Errorf("the file is there after a restart: %v, want %v", got, tc.keeps)
			}
			disks, err := filepath.Glob(filepath.Join(node.LibDir, "node", "sandboxes", pod.SandboxID, "root-*.qcow2"))
			if err != nil || len(disks) != 1 {
				t.Errorf("disks: %v, %v", disks, err)
			}
		})
	}
}

// TestAPersistentDiskOutlivesItsSandbox: a file is found again in the pod's next sandbox, after
// the first one's removal and after what a reboot of the host leaves.
func TestAPersistentDiskOutlivesItsSandbox(t *testing.T) {
	node := harness.StartNode(t)
	const name = "pod/test/uid-data/vm"
	pod := node.Run(harness.Pod{Name: "data", Annotations: persistentDisk})
	remember(pod)
	pod.Remove()
	if disks := node.ListDisks(); len(disks) != 1 || disks[0].GetName() != name || disks[0].GetHolder() != nil || disks[0].GetUsedBytes() == 0 {
		t.Fatalf("disks: %v", disks)
	}
	image, err := node.Images.ImageStatus(t.Context(), &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: harness.TinyImage()}})
	if err != nil || !image.GetImage().GetPinned() {
		t.Errorf("its image is %v, %v; want it pinned", image.GetImage(), err)
	}
	if _, err := node.Images.RemoveImage(t.Context(), &runtimeapi.RemoveImageRequest{Image: &runtimeapi.ImageSpec{Image: harness.TinyImage()}}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("its image can be removed: %v", err)
	}

	pod = node.Run(harness.Pod{Name: "data", Attempt: 1, Annotations: persistentDisk})
	if !remembers(pod) {
		t.Error("the file is gone with the first sandbox")
	}
	if h := node.ListDisks()[0].GetHolder(); h.GetPodSandboxId() != pod.SandboxID {
		t.Errorf("the holder is %v", h)
	}
	if _, err := node.Disks.RemoveDisk(t.Context(), &vmletv1.RemoveDiskRequest{Name: name}); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), pod.SandboxID) {
		t.Errorf("a disk in use: %v", err)
	}

	rebootHost(t, node, pod)
	next := node.Run(harness.Pod{Name: "data", Attempt: 2, Annotations: map[string]string{
		"vmlet.io/root-disk": "persistent", "vmlet.io/root-size": "2Gi",
	}})
	if !remembers(next) {
		t.Error("the file is gone with the host's uptime")
	}
	// 512-byte sectors, as the kernel counts.
	if got := next.Exec("cat", "/sys/class/block/vda/size"); got != "4194304" {
		t.Errorf("the guest's disk has %s sectors, want those of 2 GiB", got)
	}
	pod.Remove()
	next.Remove()
	node.RemoveDisk(name)
}

// TestAClaimIsUsedInTurn: two pods share a disk by its claim, one after the other.
func TestAClaimIsUsedInTurn(t *testing.T) {
	node := harness.StartNode(t)
	first := node.Run(harness.Pod{Name: "first", Annotations: claimedDisk})
	remember(first)
	waiting := harness.Pod{Name: "second", Annotations: claimedDisk}
	second := node.RunSandbox(waiting)
	_, err := node.CreateContainer(t.Context(), &runtimeapi.CreateContainerRequest{
		PodSandboxId: second.SandboxID, SandboxConfig: second.Config, Config: node.ContainerConfig(waiting, 0),
	})
	if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), first.SandboxID) || !strings.Contains(err.Error(), "test/first") {
		t.Errorf("while another pod has it: %v", err)
	}
	if _, err := node.StopPodSandbox(t.Context(), &runtimeapi.StopPodSandboxRequest{PodSandboxId: first.SandboxID}); err != nil {
		t.Fatal(err)
	}
	second.Create()
	second.Start()
	if !remembers(second) {
		t.Error("the second pod does not find what the first has written")
	}
	second.Remove()
	first.Remove()
	node.RemoveDisk("claim/test/data/vm")
}
