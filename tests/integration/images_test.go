// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/tests/harness"
)

// TestNothingChangesABase: two guests write to their disks, libvirt relabels what it likes;
// the image's bytes, owner and mode stay.
func TestNothingChangesABase(t *testing.T) {
	node := harness.StartNode(t)
	path := imagePath(t, node, harness.TinyImage())
	before, sum := stat(t, path), digest(t, path)
	for _, name := range []string{"one", "two"} {
		pod := node.Run(harness.Pod{Name: name})
		pod.WaitReady()
		pod.Exec("sh", "-c", "dd if=/dev/urandom of=/fill bs=64k count=20 && sync")
		stop(t, node, pod.ContainerID, 30)
	}
	after := stat(t, path)
	if before.Uid != after.Uid || before.Gid != after.Gid || before.Mode != after.Mode || before.Mtim != after.Mtim {
		t.Errorf("the base was %+v and is %+v", before, after)
	}
	if got := digest(t, path); got != sum {
		t.Errorf("the base's digest is %s, was %s", got, sum)
	}
	if err := os.Chown(path, 1, 1); err == nil {
		t.Error("root could change the owner of a base, so libvirt could")
	}
}

func imagePath(t *testing.T, node *harness.Node, image string) string {
	t.Helper()
	r, err := node.Images.ImageStatus(t.Context(), &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: image}, Verbose: true})
	if err != nil {
		t.Fatal(err)
	}
	var info struct {
		Path string `json:"path"`
	}
	if err := json.Unmarshal([]byte(r.GetInfo()["info"]), &info); err != nil || info.Path == "" {
		t.Fatalf("verbose image status: %q, %v", r.GetInfo(), err)
	}
	return info.Path
}

func stat(t *testing.T, path string) syscall.Stat_t {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st
}

func digest(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// TestWhatIsRefused: requests that a VM cannot honour are clear errors, and leave nothing.
func TestWhatIsRefused(t *testing.T) {
	node := harness.StartNode(t)
	pushForeignArch(t)
	sandboxCases := map[string]struct {
		change func(*runtimeapi.PodSandboxConfig)
		code   codes.Code
		want   string
	}{
		"host network": {func(c *runtimeapi.PodSandboxConfig) {
			c.Linux.SecurityContext = &runtimeapi.LinuxSandboxSecurityContext{NamespaceOptions: &runtimeapi.NamespaceOption{Network: runtimeapi.NamespaceMode_NODE}}
		}, codes.FailedPrecondition, "network"},
		"misspelt annotation": {func(c *runtimeapi.PodSandboxConfig) {
			c.Annotations = map[string]string{"vmlet.io/memmory": "1Gi"}
		}, codes.InvalidArgument, "vmlet.io/memory"},
		"bad annotation": {func(c *runtimeapi.PodSandboxConfig) {
			c.Annotations = map[string]string{"vmlet.io/vcpus": "many"}
		}, codes.InvalidArgument, "vmlet.io/vcpus"},
	}
	for name, tc := range sandboxCases {
		t.Run(name, func(t *testing.T) {
			_, err := node.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: node.SandboxConfig(harness.Pod{Name: "refused", Sandbox: tc.change})})
			if status.Code(err) != tc.code || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error = %v, want %s with %q", err, tc.code, tc.want)
			}
		})
	}
	if left := pods(t, node); len(left) != 0 {
		t.Errorf("pods left: %v", left)
	}
	pod := node.RunSandbox(harness.Pod{Name: "refusing"})
	containerCases := map[string]struct {
		change func(*runtimeapi.ContainerConfig)
		code   codes.Code
		want   string
	}{
		"unknown image": {func(c *runtimeapi.ContainerConfig) { c.Image.Image = "registry.test/none:1" }, codes.NotFound, "none:1"},
		"too little memory": {func(c *runtimeapi.ContainerConfig) {
			c.Linux.Resources = &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 130 << 20}
		}, codes.InvalidArgument, "too small"},
	}
	for name, tc := range containerCases {
		t.Run(name, func(t *testing.T) {
			_, err := node.CreateContainer(t.Context(), &runtimeapi.CreateContainerRequest{
				PodSandboxId: pod.SandboxID, SandboxConfig: pod.Config, Config: node.ContainerConfig(harness.Pod{Name: "refusing", Container: tc.change}, 0),
			})
			if status.Code(err) != tc.code || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error = %v, want %s with %q", err, tc.code, tc.want)
			}
		})
	}
	t.Run("image of another architecture", func(t *testing.T) {
		_, err := node.Images.PullImage(t.Context(), &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: harness.TheRegistry().Host + "/foreign:1"}})
		if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "s390x") {
			t.Errorf("error = %v", err)
		}
	})
	pod.Create()
	t.Run("second container", func(t *testing.T) {
		_, err := node.CreateContainer(t.Context(), &runtimeapi.CreateContainerRequest{
			PodSandboxId: pod.SandboxID, SandboxConfig: pod.Config,
			Config: node.ContainerConfig(harness.Pod{Name: "refusing", Container: func(c *runtimeapi.ContainerConfig) { c.Metadata.Name = "sidecar" }}, 0),
		})
		if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "one container at a time") {
			t.Errorf("error = %v", err)
		}
	})
}

func pushForeignArch(t *testing.T) {
	t.Helper()
	cfg, err := empty.Image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture = "linux", "s390x"
	img, err := mutate.ConfigFile(empty.Image, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if img, err = mutate.AppendLayers(img, static.NewLayer([]byte("a disk, for all we know"), types.OCILayer)); err != nil {
		t.Fatal(err)
	}
	if err := harness.TheRegistry().PushImage("foreign:1", img); err != nil {
		t.Fatal(err)
	}
}
