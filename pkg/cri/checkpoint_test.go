// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/vm"
)

func withRunning(f *fake, sandboxID, id string, state vm.ContainerState) {
	f.containers = append(f.containers, vm.Container{ID: id, SandboxID: sandboxID, Status: vm.ContainerStatus{State: state}})
}

func TestACheckpointIsOfTheRunningContainer(t *testing.T) {
	f := newFake()
	s := newServer(t, f)
	f.sandboxes = append(f.sandboxes, vm.Sandbox{ID: "aa", Status: vm.SandboxStatus{State: vm.SandboxReady}}, vm.Sandbox{ID: "bb"})
	withRunning(f, "aa", "c1", vm.ContainerRunning)
	withRunning(f, "aa", "c2", vm.ContainerExited)
	withRunning(f, "bb", "c3", vm.ContainerRunning)
	for name, tc := range map[string]struct {
		req  *runtimeapi.CheckpointPodRequest
		is   func(error) bool
		word string
	}{
		"no sandbox":         {&runtimeapi.CheckpointPodRequest{PodSandboxId: "zz", OutputPath: "/d", ContainerIds: []string{"c1"}}, errdefs.IsNotFound, "zz"},
		"relative path":      {&runtimeapi.CheckpointPodRequest{PodSandboxId: "aa", OutputPath: "d", ContainerIds: []string{"c1"}}, errdefs.IsInvalidArgument, "output_path"},
		"no containers":      {&runtimeapi.CheckpointPodRequest{PodSandboxId: "aa", OutputPath: "/d"}, errdefs.IsInvalidArgument, "container_ids"},
		"twice":              {&runtimeapi.CheckpointPodRequest{PodSandboxId: "aa", OutputPath: "/d", ContainerIds: []string{"c1", "c1"}}, errdefs.IsInvalidArgument, "twice"},
		"another sandbox's":  {&runtimeapi.CheckpointPodRequest{PodSandboxId: "aa", OutputPath: "/d", ContainerIds: []string{"c3"}}, errdefs.IsInvalidArgument, "of sandbox bb"},
		"one that has ended": {&runtimeapi.CheckpointPodRequest{PodSandboxId: "aa", OutputPath: "/d", ContainerIds: []string{"c2"}}, errdefs.IsFailedPrecondition, "Exited"},
		"an option":          {&runtimeapi.CheckpointPodRequest{PodSandboxId: "aa", OutputPath: "/d", ContainerIds: []string{"c1"}, Options: map[string]string{"x": "y"}}, errdefs.IsInvalidArgument, "options"},
	} {
		if _, err := s.CheckpointPod(t.Context(), tc.req); !tc.is(err) || !strings.Contains(err.Error(), tc.word) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, req := range map[string]*runtimeapi.CheckpointContainerRequest{
		"relative": {ContainerId: "c1", Location: "d"}, "negative": {ContainerId: "c1", Location: "/d", Timeout: -1}, "none": {Location: "/d"},
	} {
		if _, err := s.CheckpointContainer(t.Context(), req); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.CheckpointContainer(t.Context(), &runtimeapi.CheckpointContainerRequest{ContainerId: "c2", Location: "/d"}); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("of one that has ended: %v", err)
	}
	if len(f.calls) > 0 {
		t.Errorf("called %q", f.calls)
	}
	if _, err := s.CheckpointPod(t.Context(), &runtimeapi.CheckpointPodRequest{PodSandboxId: "aa", OutputPath: "/d/", ContainerIds: []string{"c1"}}); err != nil {
		t.Error(err)
	}
	if _, err := s.CheckpointContainer(t.Context(), &runtimeapi.CheckpointContainerRequest{ContainerId: "c1", Location: "/e", Timeout: 3}); err != nil {
		t.Error(err)
	}
	if !slices.Equal(f.calls, []string{"Checkpoint aa /d false", "Checkpoint aa /e true"}) {
		t.Errorf("called %q", f.calls)
	}
}

func TestARestoredPodIsToldByItsIDs(t *testing.T) {
	f := newFake()
	s := newServer(t, f)
	sandbox := &runtimeapi.PodSandboxConfig{
		Metadata: &runtimeapi.PodSandboxMetadata{Name: "p", Namespace: "n", Uid: "u"}, LogDirectory: "/logs",
	}
	container := &runtimeapi.ContainerConfig{
		Metadata: &runtimeapi.ContainerMetadata{Name: "vm"}, Image: &runtimeapi.ImageSpec{Image: "img"}, LogPath: "vm/0.log",
	}
	good := func() *runtimeapi.RestorePodRequest {
		return &runtimeapi.RestorePodRequest{CheckpointPath: "/d", Config: sandbox, ContainerConfigs: []*runtimeapi.ContainerConfig{container}}
	}
	for name, change := range map[string]func(*runtimeapi.RestorePodRequest){
		"options":         func(r *runtimeapi.RestorePodRequest) { r.Options = map[string]string{"a": "b"} },
		"no path":         func(r *runtimeapi.RestorePodRequest) { r.CheckpointPath = "" },
		"unknown handler": func(r *runtimeapi.RestorePodRequest) { r.RuntimeHandler = "moon" },
		"no container":    func(r *runtimeapi.RestorePodRequest) { r.ContainerConfigs = nil },
		"two containers":  func(r *runtimeapi.RestorePodRequest) { r.ContainerConfigs = append(r.ContainerConfigs, container) },
		"no sandbox":      func(r *runtimeapi.RestorePodRequest) { r.Config = nil },
	} {
		req := good()
		change(req)
		if _, err := s.RestorePod(t.Context(), req); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	got, err := s.RestorePod(t.Context(), good())
	if err != nil {
		t.Fatal(err)
	}
	if got.GetPodSandboxId() != "sandbox" || len(got.GetRestoredContainers()) != 1 || got.GetRestoredContainers()[0].GetName() != "vm" ||
		got.GetRestoredContainers()[0].GetContainerId() != "container" {
		t.Errorf("got %v", got)
	}
	if r := f.restored; r.Dir != "/d" || r.Sandbox.Name != "p" || r.Container.LogPath != "/logs/vm/0.log" || r.Container.ImageRef != "img" {
		t.Errorf("asked for %+v", r)
	}
}
