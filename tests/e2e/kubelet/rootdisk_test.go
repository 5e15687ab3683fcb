// SPDX-License-Identifier: Apache-2.0

//go:build integration

package kubelet

import (
	"fmt"
	"strings"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/tests/harness"
)

// runCountingPod says which of its runs on the same disk each is.
const runCountingPod = `apiVersion: v1
kind: Pod
metadata:
  name: disk-%[1]s
  annotations: {vmlet.io/root-disk: %[1]s}
spec:
  terminationGracePeriodSeconds: 2
  containers:
  - name: vm
    image: IMAGE
    command: [sh, -c, "echo x >>/root/runs; echo run $(grep -c x /root/runs) on this disk; sync; sleep %[2]d"]
`

// TestRootDisksUnderKubelet: a restart by kubelet, and a pod that is made again, have the disk that the pod asks for.
func TestRootDisksUnderKubelet(t *testing.T) {
	node := patientNode(t)
	k := harness.StartKubelet(t, node, harness.WithKubeletConfig("crashLoopBackOff: {maxContainerRestartPeriod: 1s}"))
	persistent := fmt.Sprintf(runCountingPod, "persistent", 3600)
	k.Apply("disk-persistent", persistent)
	k.Apply("disk-fresh", fmt.Sprintf(runCountingPod, "fresh", 3))
	k.Apply("disk-sandbox", fmt.Sprintf(runCountingPod, "sandbox", 3))

	t.Run("persistent", func(t *testing.T) {
		k := k.In(t)
		k.WaitLog("disk-persistent", "run 1 on this disk")
		k.Delete("disk-persistent")
		k.WaitGone("disk-persistent")
		k.Apply("disk-persistent", persistent)
		k.WaitLog("disk-persistent", "run 2 on this disk")
		if !pinned(t, node) {
			t.Error("kubelet may collect the image of a persistent disk")
		}
		k.Delete("disk-persistent")
		k.WaitGone("disk-persistent")
		var name string
		node.Eventually(time.Minute, func() error { // a sandbox that is being stopped is not ready any more, and has its disk yet
			disks := node.ListDisks()
			if len(disks) != 1 || disks[0].GetHolder() != nil {
				return fmt.Errorf("persistent disks: %v", disks)
			}
			name = disks[0].GetName()
			return nil
		})
		node.RemoveDisk(name)
	})
	// A run after a restart is not the first on its disk, unless the disk is fresh.
	for policy, first := range map[string]bool{"fresh": true, "sandbox": false} {
		t.Run(policy, func(t *testing.T) {
			k := k.In(t)
			k.WaitRestarts("disk-"+policy, 1)
			log := k.WaitLog("disk-"+policy, "on this disk")
			if is := strings.Contains(log, "run 1 on this disk"); is != first {
				t.Errorf("after a restart: %s", log)
			}
			k.Delete("disk-" + policy)
			k.WaitGone("disk-" + policy)
		})
	}
}

func pinned(t *testing.T, node *harness.Node) bool {
	t.Helper()
	r, err := node.Images.ImageStatus(t.Context(), &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: harness.TinyImage()}})
	if err != nil {
		t.Fatal(err)
	}
	return r.GetImage().GetPinned()
}
