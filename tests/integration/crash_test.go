// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
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
	k := newKiller(t)
	node := harness.StartNode(t, k.watched())
	k.node = node
	bystander := node.Run(harness.Pod{Name: "bystander"})
	boot := bystander.WaitReady()
	counter := startCounter(bystander)
	marks := k.passes(30, func() { life(t, node, "recorded", nil) })
	for i := range marks {
		k.arm(marks, i)
		life(t, node, fmt.Sprintf("victim-%d", i), k)
		k.mustHaveDied(marks, i)
	}
	if got := bystander.BootID(); got != boot {
		t.Errorf("the bystander's boot ID is %s, was %s", got, boot)
	}
	counter.verify(t, bystander)
	t.Logf("%d failpoints, each survived", len(marks))
}

// life runs a pod from its sandbox to its removal. A call that fails because vmlet is away is repeated when k, if there is one,
// has brought it back.
func life(t *testing.T, node *harness.Node, name string, k *killer) {
	t.Helper()
	pod := harness.Pod{Name: name}
	sandbox := node.SandboxConfig(pod)
	var sandboxID, containerID string
	attempt := uint32(0)
	again := repeated(t, name, k)
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
	grace := int64(1)
	if k != nil && k.died {
		grace = 0 // nobody waits for a guest that has no time to boot, once this life was cut
	}
	again("stop container", func(ctx context.Context) error {
		_, err := node.StopContainer(ctx, &runtimeapi.StopContainerRequest{ContainerId: containerID, Timeout: grace})
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

// repeated returns what does a call again that failed because vmlet was away, when k has brought it back.
func repeated(t *testing.T, name string, k *killer) func(what string, call func(context.Context) error) {
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
			case status.Code(err) == codes.Unavailable && k != nil && try == 0:
				k.revive()
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
