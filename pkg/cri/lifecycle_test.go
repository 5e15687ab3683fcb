// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/vm"
)

func TestAPodFromSandboxToStatus(t *testing.T) {
	svc := newFake()
	svc.images = []vm.Image{{
		ID: "sha256:" + strings.Repeat("1", 64), Size: 7,
		Digests: []string{"registry.example:5000/vms/web@sha256:" + strings.Repeat("2", 64)},
	}}
	s := newServer(t, svc)
	pod, err := s.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: kubeletSandbox(), RuntimeHandler: "vm"})
	if err != nil {
		t.Fatal(err)
	}
	created, err := s.CreateContainer(t.Context(), &runtimeapi.CreateContainerRequest{
		PodSandboxId: pod.GetPodSandboxId(), Config: kubeletContainer(),
		// What counts is what the sandbox was made with.
		SandboxConfig: &runtimeapi.PodSandboxConfig{LogDirectory: "/elsewhere"},
	})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.ContainerStatus(t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: created.GetContainerId()})
	if err != nil {
		t.Fatal(err)
	}
	status := resp.GetStatus()
	if want := "/var/log/pods/shop_web-0_7d9f2f5e-1111/vm/1.log"; status.GetLogPath() != want {
		t.Errorf("log path is %q, want %q", status.GetLogPath(), want)
	}
	if status.GetImageId() != svc.images[0].ID || status.GetImageRef() != svc.images[0].Digests[0] {
		t.Errorf("image is %q by ID, %q by digest; want %q and %q",
			status.GetImageId(), status.GetImageRef(), svc.images[0].ID, svc.images[0].Digests[0])
	}

	sandbox, err := s.PodSandboxStatus(t.Context(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: pod.GetPodSandboxId()})
	if err != nil {
		t.Fatal(err)
	}
	if got := sandbox.GetContainersStatuses(); len(got) != 1 || got[0].GetId() != created.GetContainerId() {
		t.Errorf("the sandbox's containers are %v, want %s alone", got, created.GetContainerId())
	}
	if sandbox.GetTimestamp() <= 0 {
		t.Error("the status has no time")
	}
	if resp.GetInfo() != nil || sandbox.GetInfo() != nil {
		t.Error("info was given without being asked for")
	}
}

func TestTheImageOfARunningContainerMayBeGone(t *testing.T) {
	svc := newFake()
	svc.containers = []vm.Container{{ID: "c1", Spec: vm.ContainerSpec{ImageRef: "web:1", ImageID: "sha256:11"}}}
	resp, err := newServer(t, svc).ContainerStatus(t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: "c1"})
	if err != nil {
		t.Fatal(err)
	}
	if got := resp.GetStatus().GetImageRef(); got != "sha256:11" {
		t.Errorf("image_ref is %q, want the ID", got)
	}
}

func TestRuntimeHandlersThatAreServed(t *testing.T) {
	for handler, known := range map[string]bool{"": true, "vm": true, "runc": false} {
		_, err := newServer(t, newFake()).RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: kubeletSandbox(), RuntimeHandler: handler})
		if known && err != nil {
			t.Errorf("handler %q: %v", handler, err)
		}
		if !known {
			wantClass(t, err, errdefs.ErrInvalidArgument, "runtime_handler")
		}
	}
}

func TestCreateContainerNeedsItsSandbox(t *testing.T) {
	_, err := newServer(t, newFake()).CreateContainer(t.Context(), &runtimeapi.CreateContainerRequest{PodSandboxId: "gone", Config: kubeletContainer()})
	wantClass(t, err, errdefs.ErrNotFound, "gone")
}

func TestUnknownIDsInStatusAreNotFound(t *testing.T) {
	s := newServer(t, newFake())
	for name, call := range map[string]func() error{
		"PodSandboxStatus": func() error {
			_, err := s.PodSandboxStatus(t.Context(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: "gone"})
			return err
		},
		"ContainerStatus": func() error {
			_, err := s.ContainerStatus(t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: "gone"})
			return err
		},
		"ContainerStats": func() error {
			_, err := s.ContainerStats(t.Context(), &runtimeapi.ContainerStatsRequest{ContainerId: "gone"})
			return err
		},
		"PodSandboxStats": func() error {
			_, err := s.PodSandboxStats(t.Context(), &runtimeapi.PodSandboxStatsRequest{PodSandboxId: "gone"})
			return err
		},
	} {
		if err := call(); !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("%s: %v, want not found", name, err)
		}
	}
}

// simpleCalls are the RPCs that hand an ID down and nothing back.
func simpleCalls(t *testing.T, s *Server) map[string]func(id string) error {
	t.Helper()
	return map[string]func(id string) error{
		"StopSandbox": func(id string) error {
			_, err := s.StopPodSandbox(t.Context(), &runtimeapi.StopPodSandboxRequest{PodSandboxId: id})
			return err
		},
		"RemoveSandbox": func(id string) error {
			_, err := s.RemovePodSandbox(t.Context(), &runtimeapi.RemovePodSandboxRequest{PodSandboxId: id})
			return err
		},
		"StartContainer": func(id string) error {
			_, err := s.StartContainer(t.Context(), &runtimeapi.StartContainerRequest{ContainerId: id})
			return err
		},
		"StopContainer": func(id string) error {
			_, err := s.StopContainer(t.Context(), &runtimeapi.StopContainerRequest{ContainerId: id})
			return err
		},
		"RemoveContainer": func(id string) error {
			_, err := s.RemoveContainer(t.Context(), &runtimeapi.RemoveContainerRequest{ContainerId: id})
			return err
		},
		"UpdateContainerResources": func(id string) error {
			_, err := s.UpdateContainerResources(t.Context(), &runtimeapi.UpdateContainerResourcesRequest{ContainerId: id, Linux: &runtimeapi.LinuxContainerResources{}})
			return err
		},
		"UpdateSandboxResources": func(id string) error {
			_, err := s.UpdatePodSandboxResources(t.Context(), &runtimeapi.UpdatePodSandboxResourcesRequest{PodSandboxId: id})
			return err
		},
		"ReopenLog": func(id string) error {
			_, err := s.ReopenContainerLog(t.Context(), &runtimeapi.ReopenContainerLogRequest{ContainerId: id})
			return err
		},
	}
}

func TestEachRPCMakesItsOneCall(t *testing.T) {
	svc := newFake()
	for name, call := range simpleCalls(t, newServer(t, svc)) {
		svc.calls = nil
		if err := call("i1"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if want := []string{name + " i1"}; !slices.Equal(svc.calls, want) {
			t.Errorf("called %q, want %q", svc.calls, want)
		}
	}
}

func TestErrorsOfUseCasesAreNotSwallowed(t *testing.T) {
	svc := newFake()
	svc.err = fmt.Errorf("below: %w", errdefs.ErrUnavailable)
	for name, call := range simpleCalls(t, newServer(t, svc)) {
		if err := call("i1"); !errors.Is(err, errdefs.ErrUnavailable) {
			t.Errorf("%s: %v, want the error from below", name, err)
		}
	}
}

// An empty ID is the beginning of every ID.
func TestAnEmptyIDIsRefusedBeforeAnythingIsCalled(t *testing.T) {
	svc := newFake()
	for name, call := range simpleCalls(t, newServer(t, svc)) {
		if err := call(""); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%s: %v, want invalid argument", name, err)
		}
	}
	if len(svc.calls) != 0 {
		t.Errorf("went on to %q", svc.calls)
	}
}

func TestStopTimeouts(t *testing.T) {
	for timeout, want := range map[int64]time.Duration{
		0: 0, 30: 30 * time.Second, math.MaxInt64: 9223372036 * time.Second, // all that a Duration holds
	} {
		svc := newFake()
		_, err := newServer(t, svc).StopContainer(t.Context(), &runtimeapi.StopContainerRequest{ContainerId: "c", Timeout: timeout})
		if err != nil || svc.grace != want {
			t.Errorf("timeout %d: grace %s, %v; want %s", timeout, svc.grace, err, want)
		}
	}
	_, err := newServer(t, newFake()).StopContainer(t.Context(), &runtimeapi.StopContainerRequest{ContainerId: "c", Timeout: -1})
	wantClass(t, err, errdefs.ErrInvalidArgument, "timeout")
}

func TestVerboseInformationHoldsNoSecrets(t *testing.T) {
	svc := newFake()
	svc.images = []vm.Image{{ID: "sha256:11", Tags: []string{"web:1"}, Path: "/images/11", Format: vm.FormatQCOW2, VirtualSize: 99}}
	s := newServer(t, svc)
	pod, err := s.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: kubeletSandbox()})
	if err != nil {
		t.Fatal(err)
	}
	made, err := s.CreateContainer(t.Context(), &runtimeapi.CreateContainerRequest{PodSandboxId: pod.GetPodSandboxId(), Config: kubeletContainer()})
	if err != nil {
		t.Fatal(err)
	}
	svc.sandboxes[0].Status.Network = &vm.Network{NetNS: "/run/netns/x", NICs: []vm.NIC{{Name: "eth0", Tap: "vt0"}}}
	svc.sandboxes[0].Status.Disks = []vm.Disk{{Container: "vm", Path: "/disks/root"}}

	sandbox, err := s.PodSandboxStatus(t.Context(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: pod.GetPodSandboxId(), Verbose: true})
	if err != nil {
		t.Fatal(err)
	}
	container, err := s.ContainerStatus(t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: made.GetContainerId(), Verbose: true})
	if err != nil {
		t.Fatal(err)
	}
	img, err := s.ImageStatus(t.Context(), &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: "web:1"}, Verbose: true})
	if err != nil {
		t.Fatal(err)
	}
	for what, tt := range map[string]struct {
		info map[string]string
		want map[string]any
	}{
		"sandbox": {sandbox.GetInfo(), map[string]any{
			"sandboxID": pod.GetPodSandboxId(), "domain": vm.DomainName(pod.GetPodSandboxId()), "netns": "/run/netns/x", "state": "Ready",
		}},
		"container": {container.GetInfo(), map[string]any{
			"sandboxID": pod.GetPodSandboxId(), "domain": vm.DomainName(pod.GetPodSandboxId()), "state": "Created",
		}},
		"image": {img.GetInfo(), map[string]any{"path": "/images/11", "format": "qcow2", "virtualSize": 99.0}},
	} {
		var got map[string]any
		if err := json.Unmarshal([]byte(tt.info["info"]), &got); err != nil {
			t.Fatalf("%s: %q: %v", what, tt.info["info"], err)
		}
		for key, want := range tt.want {
			if got[key] != want {
				t.Errorf("%s: %s is %v, want %v", what, key, got[key], want)
			}
		}
		if strings.Contains(tt.info["info"], secret) {
			t.Errorf("%s tells a secret: %s", what, tt.info["info"])
		}
	}
	if info := sandbox.GetInfo()["info"]; !strings.Contains(info, "vt0") || !strings.Contains(info, "/disks/root") {
		t.Errorf("sandbox does not tell its NICs and disks: %s", info)
	}
}
