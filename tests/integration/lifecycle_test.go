// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/tests/harness"
)

var errNotYet = errors.New("not yet")

// TestLifecycleByCrictl drives one pod with the program that people use.
func TestLifecycleByCrictl(t *testing.T) {
	node := harness.StartNode(t)
	dir := t.TempDir()
	file := func(name string, v any) string {
		t.Helper()
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	config := file("crictl.yaml", map[string]any{
		"runtime-endpoint": "unix://" + node.Socket(), "image-endpoint": "unix://" + node.Socket(), "timeout": 60,
	})
	crictl := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), harness.Bin("crictl"), append([]string{"-c", config}, args...)...)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("crictl %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.String())
		}
		return strings.TrimSpace(string(out))
	}
	pod := file("pod.json", map[string]any{
		"metadata":      map[string]any{"name": "crictl", "namespace": "default", "uid": "crictl-1", "attempt": 0},
		"log_directory": filepath.Join(node.LogDir(), "crictl"), "linux": map[string]any{},
	})
	container := file("container.json", map[string]any{
		"metadata": map[string]any{"name": "vm"}, "image": map[string]any{"image": harness.TinyImage()}, "log_path": "vm.log", "linux": map[string]any{},
	})
	crictl("pull", harness.TinyImage())
	if images := crictl("images"); !strings.Contains(images, "tiny") {
		t.Errorf("crictl images: %s", images)
	}
	sandbox := crictl("runp", pod)
	id := crictl("create", sandbox, container, pod)
	crictl("start", id)
	if got := crictl("exec", "-s", id, "uname", "-s"); got != "Linux" {
		t.Errorf("exec: %q", got)
	}
	if got := crictl("logs", id); !strings.Contains(got, "READY") {
		node.Eventually(time.Minute, func() error {
			if strings.Contains(crictl("logs", id), "READY") {
				return nil
			}
			return errNotYet
		})
	}
	if got := crictl("ps"); !strings.Contains(got, id[:13]) {
		t.Errorf("crictl ps: %s", got)
	}
	if got := crictl("stats", id); !strings.Contains(got, id[:13]) {
		t.Errorf("crictl stats: %s", got)
	}
	crictl("inspect", id)
	crictl("inspectp", sandbox)
	crictl("stop", "-t", "20", id)
	crictl("rm", id)
	crictl("stopp", sandbox)
	crictl("rmp", sandbox)
	crictl("rmi", harness.TinyImage())
}

// TestEveryCallMayBeRepeated holds the idempotence that the CRI comments demand.
func TestEveryCallMayBeRepeated(t *testing.T) {
	node := harness.StartNode(t)
	ctx := t.Context()
	pod := harness.Pod{Name: "again"}
	config := node.SandboxConfig(pod)
	var sandboxes, containers []string
	var mu sync.Mutex
	atOnce := func(do func()) {
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(do)
		}
		wg.Wait()
	}
	must := func(what string, err error) {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	atOnce(func() {
		r, err := node.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{Config: config})
		must("run sandbox", err)
		mu.Lock()
		defer mu.Unlock()
		sandboxes = append(sandboxes, r.GetPodSandboxId())
	})
	sandbox := same(t, sandboxes)
	atOnce(func() {
		r, err := node.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{PodSandboxId: sandbox, SandboxConfig: config, Config: node.ContainerConfig(pod, 0)})
		must("create container", err)
		mu.Lock()
		defer mu.Unlock()
		containers = append(containers, r.GetContainerId())
	})
	id := same(t, containers)
	atOnce(func() {
		_, err := node.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: id})
		must("start container", err)
	})
	for _, c := range []string{id, "unknown"} {
		for _, grace := range []int64{1, 0} {
			atOnce(func() {
				_, err := node.StopContainer(ctx, &runtimeapi.StopContainerRequest{ContainerId: c, Timeout: grace})
				must("stop container", err)
			})
		}
		atOnce(func() {
			_, err := node.RemoveContainer(ctx, &runtimeapi.RemoveContainerRequest{ContainerId: c})
			must("remove container", err)
		})
	}
	for _, sb := range []string{sandbox, "unknown"} {
		atOnce(func() {
			_, err := node.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: sb})
			must("stop sandbox", err)
		})
		atOnce(func() {
			_, err := node.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: sb})
			must("remove sandbox", err)
		})
	}
	atOnce(func() {
		_, err := node.Images.RemoveImage(ctx, &runtimeapi.RemoveImageRequest{Image: &runtimeapi.ImageSpec{Image: harness.TinyImage()}})
		must("remove image", err)
	})
}

func same(t *testing.T, ids []string) string {
	t.Helper()
	for _, id := range ids {
		if id == "" || id != ids[0] {
			t.Fatalf("IDs differ: %v", ids)
		}
	}
	return ids[0]
}

// TestDiskBelongsToTheSandbox restarts the container three times and removes the dead
// attempts: what the guest wrote stays, and it is the same machine.
func TestDiskBelongsToTheSandbox(t *testing.T) {
	node := harness.StartNode(t)
	pod := node.Run(harness.Pod{Name: "disk"})
	pod.WaitReady()
	uuid := pod.Exec("cat", "/sys/class/dmi/id/product_uuid")
	pod.Exec("sh", "-c", "echo 0 > /kept && sync")
	for attempt := range 3 {
		dead := pod.ContainerID
		stop(t, node, dead, 30)
		pod.Create()
		if _, err := node.RemoveContainer(t.Context(), &runtimeapi.RemoveContainerRequest{ContainerId: dead}); err != nil {
			t.Fatal(err)
		}
		pod.Start()
		pod.WaitReady()
		if got, want := pod.Exec("cat", "/kept"), strings.TrimSpace(strings.Repeat("0\n", attempt+1)); got != want {
			t.Errorf("attempt %d: /kept = %q, want %q", attempt+1, got, want)
		}
		pod.Exec("sh", "-c", "echo 0 >> /kept && sync")
		if got := pod.Exec("cat", "/sys/class/dmi/id/product_uuid"); got != uuid {
			t.Errorf("the machine's UUID is %s, was %s", got, uuid)
		}
	}
}

// TestInitContainersBootOneAfterAnother runs two containers of other names in turn, each
// with its own disk.
func TestInitContainersBootOneAfterAnother(t *testing.T) {
	node := harness.StartNode(t)
	name := "init"
	p := harness.Pod{Name: "inits", Container: func(c *runtimeapi.ContainerConfig) {
		c.Metadata.Name = name
		c.LogPath = name + ".log"
	}}
	pod := node.RunSandbox(p)
	pod.Create()
	pod.Start()
	pod.Exec("sh", "-c", "echo init > /who && sync")
	pod.ExecDetached("poweroff")
	if st := pod.WaitExited(); st.GetExitCode() != 0 || st.GetReason() != "Completed" {
		t.Errorf("init ended with %d %s", st.GetExitCode(), st.GetReason())
	}
	name = "main"
	main := *pod
	main.ContainerID = ""
	main.Create()
	main.Start()
	if got := main.Exec("sh", "-c", "cat /who 2>/dev/null || echo nobody"); got != "nobody" {
		t.Errorf("the main container sees the init container's disk: %q", got)
	}
}

// TestTwentyPodsAtOnce runs many pods in parallel on one node.
func TestTwentyPodsAtOnce(t *testing.T) {
	node := harness.StartNode(t, harness.WithConfig("defaults: {memory: 96MiB}"))
	var wg sync.WaitGroup
	ips := make([]string, 20)
	for i := range ips {
		wg.Go(func() {
			pod := node.Run(harness.Pod{Name: "many-" + string(rune('a'+i))})
			ips[i] = pod.IP
		})
	}
	wg.Wait()
	seen := map[string]bool{}
	for _, ip := range ips {
		if ip == "" || seen[ip] {
			t.Errorf("addresses: %v", ips)
			break
		}
		seen[ip] = true
	}
	list, err := node.ListContainers(t.Context(), &runtimeapi.ListContainersRequest{Filter: &runtimeapi.ContainerFilter{
		State: &runtimeapi.ContainerStateValue{State: runtimeapi.ContainerState_CONTAINER_RUNNING},
	}})
	if err != nil || len(list.GetContainers()) != len(ips) {
		t.Errorf("%d containers run, %v", len(list.GetContainers()), err)
	}
}

// TestForcedStopDuringAGracefulOne: the second call does not wait for the first one's grace.
func TestForcedStopDuringAGracefulOne(t *testing.T) {
	node := harness.StartNode(t)
	pod := node.Run(harness.Pod{Name: "deaf"}) // a guest in its firmware hears no button
	graceful := make(chan error, 1)
	go func() {
		_, err := node.StopContainer(t.Context(), &runtimeapi.StopContainerRequest{ContainerId: pod.ContainerID, Timeout: 600})
		graceful <- err
	}()
	node.Eventually(10*time.Second, func() error {
		if v := pod.VerboseStatus()["info"]; !strings.Contains(v, "deadline") {
			return fmt.Errorf("no stop is under way: %s", v)
		}
		return nil
	})
	stop(t, node, pod.ContainerID, 0)
	if err := <-graceful; err != nil {
		t.Errorf("the graceful stop: %v", err)
	}
	if st := pod.Status(); st.GetExitCode() != 137 {
		t.Errorf("exit code %d", st.GetExitCode())
	}
}

// TestGracefulStopIsTheGuestsOwn: a guest that is up powers itself off, code 0.
func TestGracefulStopIsTheGuestsOwn(t *testing.T) {
	node := harness.StartNode(t)
	pod := node.Run(harness.Pod{Name: "polite"})
	pod.WaitReady()
	begin := time.Now()
	stop(t, node, pod.ContainerID, 60)
	st := pod.Status()
	if st.GetExitCode() != 0 || st.GetReason() != "Completed" {
		t.Errorf("exit %d %s %s", st.GetExitCode(), st.GetReason(), st.GetMessage())
	}
	if at := time.Unix(0, st.GetFinishedAt()); at.Before(begin) || at.After(time.Now()) {
		t.Errorf("finished at %v, not between %v and now", at, begin)
	}
	if _, err := pod.HTTP("/"); err == nil {
		t.Error("the page is still there")
	}
}

func stop(t *testing.T, node *harness.Node, id string, grace int64) {
	t.Helper()
	if _, err := node.StopContainer(t.Context(), &runtimeapi.StopContainerRequest{ContainerId: id, Timeout: grace}); err != nil {
		t.Fatalf("stop: %v", err)
	}
}
