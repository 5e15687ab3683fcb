// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
	"github.com/vmlet/vmlet/tests/harness"
)

// TestKilledAtEveryStepOfADisk kills vmlet with SIGKILL at each failpoint about a disk that
// the policies fresh and persistent pass beside those of any pod's life. The disk is where
// it has to be, and nothing is left of it in the end. No guest boots: its disk need not.
func TestKilledAtEveryStepOfADisk(t *testing.T) {
	for policy, least := range map[string]int{"fresh": 4, "persistent": 10} {
		t.Run(policy, func(t *testing.T) {
			k := newKiller(t)
			node := harness.StartNode(t, k.watched())
			k.node = node
			marks := k.passes(least, func() { diskLife(t, node, policy, "recorded", nil) })
			for i, mark := range marks {
				if strings.Contains(mark, "disk") {
					k.arm(marks, i)
					diskLife(t, node, policy, fmt.Sprintf("victim-%d", i), k)
					k.mustHaveDied(marks, i)
				}
			}
		})
	}
}

// diskLife creates two containers in the pod's first sandbox and one in its second, removes
// both, and then the disk if it is a persistent one.
func diskLife(t *testing.T, node *harness.Node, policy, name string, k *killer) {
	t.Helper()
	again := repeated(t, name, k)
	files := map[string]bool{}
	for attempt := range uint32(2) {
		pod := harness.Pod{Name: name, Attempt: attempt, Annotations: map[string]string{"vmlet.io/root-disk": policy}}
		sandbox := node.SandboxConfig(pod)
		var sandboxID string
		again("run sandbox", func(ctx context.Context) error {
			r, err := node.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{Config: sandbox})
			sandboxID = r.GetPodSandboxId()
			return err
		})
		for boot := range 2 - attempt {
			var containerID string
			again("create container", func(ctx context.Context) error {
				r, err := node.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{
					PodSandboxId: sandboxID, SandboxConfig: sandbox, Config: node.ContainerConfig(pod, boot),
				})
				containerID = r.GetContainerId()
				return err
			})
			files[onlyRoot(t, node)] = true
			if boot == 1 {
				again("remove container", func(ctx context.Context) error {
					_, err := node.RemoveContainer(ctx, &runtimeapi.RemoveContainerRequest{ContainerId: containerID})
					return err
				})
			}
		}
		again("remove sandbox", func(ctx context.Context) error {
			_, err := node.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: sandboxID})
			return err
		})
	}
	if want := map[string]int{"fresh": 3, "persistent": 1}[policy]; len(files) != want {
		t.Errorf("%s: the boots had %d disks, want %d: %v", name, len(files), want, files)
	}
	if policy != "persistent" {
		return
	}
	again("remove disk", func(ctx context.Context) error {
		_, err := node.Disks.RemoveDisk(ctx, &vmletv1.RemoveDiskRequest{Name: "pod/test/uid-" + name + "/vm"})
		if status.Code(err) == codes.NotFound {
			return nil // done by the call that was cut short, or by the next start
		}
		return err
	})
	if left := node.ListDisks(); len(left) != 0 {
		t.Errorf("%s: disks left: %v", name, left)
	}
}

// onlyRoot is the one root disk that there is on the node.
func onlyRoot(t *testing.T, node *harness.Node) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(node.LibDir, "node", "*", "*", "root*.qcow2"))
	if err != nil || len(found) != 1 {
		t.Fatalf("root disks %v, %v; want one", found, err)
	}
	return found[0]
}
