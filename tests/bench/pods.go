// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/vm"
	"github.com/vmlet/vmlet/tests/harness"
)

// guestMemory is that of all guests.
const guestMemory = 96 * vm.MiB

// startNode starts the daemon as it is installed: its own build, log level, metrics and
// sampling.
func startNode(t *testing.T) *harness.Node {
	t.Helper()
	node := newNode(t)
	node.Start()
	node.Pull(harness.TinyImage())
	return node
}

func newNode(t *testing.T) *harness.Node {
	t.Helper()
	return harness.NewNode(t, harness.WithProgram("vmlet"), harness.WithConfig(fmt.Sprintf(
		"defaults: {memory: %dMiB}\nlog: {level: info}\nmetrics: {address: %q}\nstats: {interval: 10s}", guestMemory/vm.MiB, metricsAddress)))
}

// vmlet starts and ends pods by CRI calls.
type vmlet struct {
	node  *harness.Node
	steps *stepTimes
	// like is what all of its pods are like.
	like harness.Pod
}

// vmletPod is a pod of vmlet's.
type vmletPod struct{ name, sandbox, container string }

func (p vmletPod) uuid() string { return vm.UUIDFromID(p.sandbox) }

// start runs a pod by the three calls that a kubelet makes.
func (v vmlet) start(ctx context.Context, name string) (p vmletPod, err error) {
	p.name = name
	pod := v.like
	pod.Name = name
	config := v.node.SandboxConfig(pod)
	err = v.steps.time("RunPodSandbox", func() error {
		r, err := v.node.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{Config: config})
		p.sandbox = r.GetPodSandboxId()
		return err
	})
	if err != nil {
		return p, err
	}
	err = v.steps.time("CreateContainer", func() error {
		r, err := v.node.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{
			PodSandboxId: p.sandbox, SandboxConfig: config, Config: v.node.ContainerConfig(pod, 0),
		})
		p.container = r.GetContainerId()
		return err
	})
	if err != nil {
		return p, err
	}
	return p, v.steps.time("StartContainer", func() error {
		_, err := v.node.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: p.container})
		return err
	})
}

// logOf is where the console of a pod's first container is.
func (v vmlet) logOf(p vmletPod) string { return filepath.Join(v.node.LogDir(), p.name, "vm/0.log") }

func (v vmlet) stop(ctx context.Context, p vmletPod, graceSeconds int64) error {
	_, err := v.node.StopContainer(ctx, &runtimeapi.StopContainerRequest{ContainerId: p.container, Timeout: graceSeconds})
	return err
}

func (v vmlet) remove(ctx context.Context, p vmletPod) error {
	_, err := v.node.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: p.sandbox})
	return err
}

// rivals are a node and a floor that makes pods of the same parts.
func rivals(t *testing.T) (*floor, vmlet) {
	t.Helper()
	return rivalsOf(t, startNode(t), harness.Pod{Image: harness.TinyImage()})
}

// rivalsOf are the node, and a floor, that make pods of one kind.
func rivalsOf(t *testing.T, node *harness.Node, like harness.Pod) (*floor, vmlet) {
	t.Helper()
	f, err := newFloor(node, imageOf(t, node, like.Image))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.close(); err != nil {
			t.Error(err)
		}
	})
	v := vmlet{node, newStepTimes(), like}
	warmUp(t, f, v)
	return f, v
}

// warmUp runs a pod on each side, so that what is cached is cached, and has the floor learn
// vmlet's domain.
func warmUp(t *testing.T, f *floor, v vmlet) {
	t.Helper()
	p, err := v.start(t.Context(), "warm-up")
	must(t, err)
	must(t, f.copyDomain(p.uuid()))
	must(t, v.remove(t.Context(), p))
	bare, err := f.start(t.Context())
	must(t, err)
	must(t, bare.domain.Destroy())
	must(t, f.remove(t.Context(), bare))
	f.steps.reset()
	v.steps.reset()
}

// imageOf finds an image's file in the node's store.
func imageOf(t *testing.T, node *harness.Node, name string) vm.Image {
	t.Helper()
	r, err := node.Images.ImageStatus(t.Context(), &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: name}, Verbose: true})
	if err != nil {
		t.Fatal(err)
	}
	var image vm.Image
	if err := json.Unmarshal([]byte(r.GetInfo()["info"]), &image); err != nil || image.Path == "" {
		t.Fatalf("verbose image status: %q, %v", r.GetInfo(), err)
	}
	return image
}

// must ends the test for an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// pause lets time pass where the passing of time is what is wanted.
func pause(d time.Duration) { time.Sleep(d) }
