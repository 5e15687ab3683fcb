// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/tests/harness"
)

// TestKilledAtEveryFailpoint kills vmlet with SIGKILL at every failpoint that one pod's
// life passes, one by one. The client does what a kubelet does: it repeats the call that
// failed. Each time the pod's life must come to its end, nothing may be left, and a VM
// that runs beside must notice nothing: same boot, no console line lost or doubled.
func TestKilledAtEveryFailpoint(t *testing.T) {
	kill := filepath.Join(t.TempDir(), "kill")
	record := filepath.Join(t.TempDir(), "record")
	node := harness.StartNode(t, harness.WithEnv("VMLET_FAILPOINT_KILL="+kill))
	bystander := node.Run(harness.Pod{Name: "bystander"})
	boot := bystander.WaitReady()
	counter := startCounter(bystander)

	node.Stop()
	node.StartNotServing("VMLET_FAILPOINT_RECORD=" + record)
	node.WaitServing(time.Minute)
	recovered := len(lines(t, record))
	life(t, node, "recorded", nil)
	passed := lines(t, record)
	marks := passed[recovered:]
	if len(marks) < 30 {
		t.Fatalf("a pod's life passed only %d failpoints: %v", len(marks), marks)
	}
	before := map[string]int{}
	for _, m := range passed[:recovered] {
		before[m]++
	}

	node.Stop()
	node.Start()
	seen := map[string]int{}
	for i, mark := range marks {
		seen[mark]++
		// Marks that recovery itself passes are passed before the pod's life begins.
		nth := before[mark] + seen[mark]
		if err := os.WriteFile(kill, fmt.Appendf(nil, "%s %d", mark, nth), 0o600); err != nil {
			t.Fatal(err)
		}
		killed := false
		life(t, node, fmt.Sprintf("victim-%d", i), func() {
			<-node.Exited()
			killed = true
			if err := os.Remove(kill); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			node.Stop() // forgets the dead process
			node.Start()
		})
		if !killed {
			t.Errorf("failpoint %s, pass %d, was never reached", mark, nth)
			_ = os.Remove(kill) //nolint:errcheck // the failure is told already
		}
		// A fresh process for every round, so that the passes are counted alike.
		node.Stop()
		node.Start()
	}
	if got := bystander.BootID(); got != boot {
		t.Errorf("the bystander's boot ID is %s, was %s", got, boot)
	}
	counter.verify(t, bystander)
	t.Logf("%d failpoints, each survived", len(marks))
}

// life runs a pod from its sandbox to its removal. Every call is repeated while it fails
// because vmlet is away; died is called then, and brings vmlet back.
func life(t *testing.T, node *harness.Node, name string, died func()) {
	t.Helper()
	pod := harness.Pod{Name: name}
	sandbox := node.SandboxConfig(pod)
	var sandboxID, containerID string
	attempt := uint32(0)
	again := repeated(t, name, died)
	again("run sandbox", func(ctx context.Context) error {
		r, err := node.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{Config: sandbox})
		sandboxID = r.GetPodSandboxId()
		return err
	})
	again("create container", func(ctx context.Context) error {
		r, err := node.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{
			PodSandboxId: sandboxID, SandboxConfig: sandbox, Config: node.ContainerConfig(pod, attempt),
		})
		containerID = r.GetContainerId()
		return err
	})
	again("start container", func(ctx context.Context) error {
		_, err := node.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: containerID})
		return err
	})
	again("stop container", func(ctx context.Context) error {
		_, err := node.StopContainer(ctx, &runtimeapi.StopContainerRequest{ContainerId: containerID, Timeout: 1})
		return err
	})
	again("see it exited", func(ctx context.Context) error {
		r, err := node.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: containerID})
		if err == nil && r.GetStatus().GetState() != runtimeapi.ContainerState_CONTAINER_EXITED {
			return fmt.Errorf("it is %s", r.GetStatus().GetState())
		}
		return err
	})
	again("remove container", func(ctx context.Context) error {
		_, err := node.RemoveContainer(ctx, &runtimeapi.RemoveContainerRequest{ContainerId: containerID})
		return err
	})
	again("stop sandbox", func(ctx context.Context) error {
		_, err := node.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: sandboxID})
		return err
	})
	again("remove sandbox", func(ctx context.Context) error {
		_, err := node.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: sandboxID})
		return err
	})
}

// repeated returns what does a call again that failed because vmlet was away.
func repeated(t *testing.T, name string, died func()) func(what string, call func(context.Context) error) {
	t.Helper()
	return func(what string, call func(context.Context) error) {
		t.Helper()
		for try := 0; ; try++ {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			err := call(ctx)
			cancel()
			switch {
			case err == nil:
				return
			case status.Code(err) == codes.Unavailable && died != nil && try == 0:
				died()
			default:
				t.Fatalf("%s %s: %v", what, name, err)
			}
		}
	}
}

func lines(t *testing.T, path string) []string {
	t.Helper()
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(b))
}
