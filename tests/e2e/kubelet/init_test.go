// SPDX-License-Identifier: Apache-2.0

//go:build integration

package kubelet

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/random"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/tests/harness"
)

var initScenarios = []live{
	{"init containers are boots with disks of their own that hand on data by an emptyDir", initContainers},
	{"an init container that fails ends a pod that is not restarted", failingInit},
	{"sidecars, several containers and ephemeral containers are refused with what to do instead", refusedContainers},
}

func initContainers(t *testing.T, k *harness.Kubelet) {
	tools := pushTools(t)
	k.ApplyFile("init", "registry.example/tools:1", tools)
	pod := k.WaitPhase("init", "Succeeded")
	t.Cleanup(func() { k.Delete("init") })
	for _, name := range []string{"fetch", "check", "vm"} {
		c := pod.Container(name)
		if end := c.State.Terminated; end == nil || end.ExitCode != 0 || end.Reason != "Completed" || c.RestartCount != 0 {
			t.Errorf("%s: %+v", name, c)
		}
	}
	fetch, check, vm := pod.Container("fetch"), pod.Container("check"), pod.VM()
	if fetch.ImageID == vm.ImageID || check.ImageID != vm.ImageID {
		t.Errorf("images %s, %s, %s", fetch.ImageID, check.ImageID, vm.ImageID)
	}
	if check.State.Terminated.StartedAt.Before(fetch.State.Terminated.FinishedAt) || vm.State.Terminated.StartedAt.Before(check.State.Terminated.FinishedAt) {
		t.Errorf("they did not run one after another: %+v", pod.Status)
	}
	if log := k.Log("init"); log != "fetched\nchecked\n" {
		t.Errorf("the main container has %q", log)
	}
}

// pushTools pushes a second image with the same guest.
func pushTools(t *testing.T) string {
	t.Helper()
	disk, err := os.ReadFile(harness.Bin("tiny.qcow2"))
	if err == nil {
		err = harness.TheRegistry().Push("tools:1", append(disk, make([]byte, 64<<10)...))
	}
	if err != nil {
		t.Fatal(err)
	}
	return harness.TheRegistry().Host + "/tools:1"
}

func failingInit(t *testing.T, k *harness.Kubelet) {
	k.Apply("init-fails", `apiVersion: v1
kind: Pod
metadata: {name: init-fails}
spec:
  restartPolicy: Never
  initContainers:
  - {name: prepare, image: IMAGE, command: [sh, -c, "echo no licence >/dev/termination-log; exit 3"]}
  containers:
  - {name: vm, image: IMAGE}
`)
	pod := k.WaitPhase("init-fails", "Failed")
	t.Cleanup(func() { k.Delete("init-fails") })
	end := pod.Container("prepare").State.Terminated
	if end == nil || end.ExitCode != 3 || end.Reason != "Error" || end.Message != "no licence\n" {
		t.Errorf("the init container ended with %+v", end)
	}
	if vm := pod.VM(); vm.ContainerID != "" || vm.State.Waiting == nil || vm.State.Waiting.Reason != "PodInitializing" {
		t.Errorf("the main container: %+v", vm)
	}
}

// refusedContainers: the VM goes on, and the user reads what to do. CRI does not tell a sidecar from an init
// container: it is the container after it that is refused, because the sidecar runs.
func refusedContainers(t *testing.T, k *harness.Kubelet) {
	const pod = `apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  terminationGracePeriodSeconds: 1
`
	for name, containers := range map[string]string{
		"sidecar": `  initContainers:
  - {name: vm, image: IMAGE, restartPolicy: Always}
  containers:
  - {name: main, image: IMAGE}
`,
		"several": `  containers:
  - {name: vm, image: IMAGE}
  - {name: second, image: IMAGE}
`,
		"with-a-container-image": `  containers:
  - {name: vm, image: IMAGE}
  - {name: second, image: CONTAINER}
`,
	} {
		k.Apply(name, strings.NewReplacer("NAME", name, "CONTAINER", pushContainer(t)).Replace(pod+containers))
		t.Cleanup(func() { k.Delete(name) })
	}
	const wayOut = "container vm is Running, and a VM pod runs one container at a time: instead of a second container or a sidecar (an init container with restartPolicy Always) use a program inside the guest or another pod, instead of an ephemeral container use exec"
	for name, container := range map[string]string{"sidecar": "main", "several": "second"} {
		event := k.WaitEvent(name, "one container at a time")
		if want := "Failed: Error: create container " + container + ": " + wayOut; !strings.HasPrefix(event, want) {
			t.Errorf("%s: event %q, want %q", name, event, want)
		}
		k.WaitPod(name, func(p *harness.KubePod) error {
			if w := p.Container(container).State.Waiting; w == nil || w.Reason != "CreateContainerError" || !strings.Contains(w.Message, wayOut) {
				return fmt.Errorf("%s is not said to wait for a way out", container)
			}
			return nil
		})
	}
	k.WaitEvent("with-a-container-image", "this is a container image, not a VM image")
	ephemeral(t, k.Running("several"), k.Node, wayOut)
	// Each try is told again, and in the same words: that is what kubelet counts.
	var events []string
	k.Node.Eventually(time.Minute, func() error {
		if events = eventsWith(k, "several", "one container at a time"); len(events) < 2 {
			return fmt.Errorf("told %d times", len(events))
		}
		return nil
	})
	if len(slices.Compact(events)) != 1 {
		t.Errorf("events %q", events)
	}
	for _, name := range []string{"sidecar", "several", "with-a-container-image"} {
		if p := k.WaitRunning(name); p.VM().RestartCount != 0 {
			t.Errorf("%s: its VM was restarted: %+v", name, p.VM())
		}
	}
}

// ephemeral adds a debugger as kubelet does; a static pod cannot have one.
func ephemeral(t *testing.T, vm *harness.Running, node *harness.Node, wayOut string) {
	t.Helper()
	for name, tc := range map[string]struct {
		target *runtimeapi.NamespaceOption
		want   string
	}{
		"kubectl debug":          {&runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER}, wayOut},
		"kubectl debug --target": {&runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_TARGET, TargetId: vm.ContainerID}, "instead of an ephemeral container use exec"},
	} {
		config := node.ContainerConfig(harness.Pod{}, 0)
		config.Metadata.Name = "debugger"
		config.Linux.SecurityContext = &runtimeapi.LinuxContainerSecurityContext{NamespaceOptions: tc.target}
		_, err := node.CreateContainer(t.Context(), &runtimeapi.CreateContainerRequest{PodSandboxId: vm.SandboxID, Config: config})
		if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// pushContainer pushes an image that has no disk.
func pushContainer(t *testing.T) string {
	t.Helper()
	img, err := random.Image(1024, 1)
	if err == nil {
		err = harness.TheRegistry().PushImage("container:1", img)
	}
	if err != nil {
		t.Fatal(err)
	}
	return harness.TheRegistry().Host + "/container:1"
}
