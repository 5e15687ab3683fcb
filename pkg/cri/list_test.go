// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/vm"
)

// pods is two ready sandboxes and a stopped one, each with a container.
func pods() *fake {
	f := newFake()
	for i, p := range []struct {
		id    string
		label string
		sb    vm.SandboxState
		c     vm.ContainerState
	}{
		{"aa10", "web", vm.SandboxReady, vm.ContainerRunning},
		{"aa20", "db", vm.SandboxReady, vm.ContainerCreated},
		{"bb30", "web", vm.SandboxNotReady, vm.ContainerExited},
	} {
		at := f.now.Add(time.Duration(i) * time.Second)
		labels := map[string]string{"app": p.label, "empty": ""}
		f.sandboxes = append(f.sandboxes, vm.Sandbox{
			ID: p.id, CreatedAt: at, Spec: vm.SandboxSpec{Labels: labels}, Status: vm.SandboxStatus{State: p.sb},
		})
		f.containers = append(f.containers, vm.Container{
			ID: "c" + p.id, SandboxID: p.id, CreatedAt: at, Spec: vm.ContainerSpec{Labels: labels},
			Status: vm.ContainerStatus{State: p.c, StartedAt: at},
		})
	}
	return f
}

func TestSandboxesAreListedNewestFirstByTheirFilter(t *testing.T) {
	type filter = runtimeapi.PodSandboxFilter
	ready := &runtimeapi.PodSandboxStateValue{State: runtimeapi.PodSandboxState_SANDBOX_READY}
	notReady := &runtimeapi.PodSandboxStateValue{State: runtimeapi.PodSandboxState_SANDBOX_NOTREADY}
	for name, tt := range map[string]struct {
		filter *filter
		want   []string
	}{
		"no filter":      {nil, []string{"bb30", "aa20", "aa10"}},
		"empty filter":   {&filter{}, []string{"bb30", "aa20", "aa10"}},
		"ready":          {&filter{State: ready}, []string{"aa20", "aa10"}},
		"not ready":      {&filter{State: notReady}, []string{"bb30"}},
		"label":          {&filter{LabelSelector: map[string]string{"app": "web"}}, []string{"bb30", "aa10"}},
		"empty label":    {&filter{LabelSelector: map[string]string{"empty": ""}}, []string{"bb30", "aa20", "aa10"}},
		"no such label":  {&filter{LabelSelector: map[string]string{"absent": ""}}, nil},
		"all together":   {&filter{Id: "aa10", State: ready, LabelSelector: map[string]string{"app": "web"}}, []string{"aa10"}},
		"one part fails": {&filter{Id: "aa10", State: notReady}, nil},
		"ID":             {&filter{Id: "aa20"}, []string{"aa20"}},
		"prefix":         {&filter{Id: "b"}, []string{"bb30"}},
		"unknown ID":     {&filter{Id: "cc"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			resp, err := newServer(t, pods()).ListPodSandbox(t.Context(), &runtimeapi.ListPodSandboxRequest{Filter: tt.filter})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, sb := range received(t, resp).GetItems() {
				got = append(got, sb.GetId())
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("listed %v, want %v", got, tt.want)
			}
		})
	}
}

func TestContainersAreListedNewestFirstByTheirFilter(t *testing.T) {
	type filter = runtimeapi.ContainerFilter
	running := &runtimeapi.ContainerStateValue{State: runtimeapi.ContainerState_CONTAINER_RUNNING}
	created := &runtimeapi.ContainerStateValue{State: runtimeapi.ContainerState_CONTAINER_CREATED}
	for name, tt := range map[string]struct {
		filter *filter
		want   []string
	}{
		"no filter":       {nil, []string{"cbb30", "caa20", "caa10"}},
		"running":         {&filter{State: running}, []string{"caa10"}},
		"created":         {&filter{State: created}, []string{"caa20"}},
		"sandbox":         {&filter{PodSandboxId: "aa20"}, []string{"caa20"}},
		"sandbox prefix":  {&filter{PodSandboxId: "bb"}, []string{"cbb30"}},
		"unknown sandbox": {&filter{PodSandboxId: "zz"}, nil},
		"ID in another":   {&filter{Id: "caa10", PodSandboxId: "aa20"}, nil},
		"ID prefix":       {&filter{Id: "cb"}, []string{"cbb30"}},
		"label":           {&filter{LabelSelector: map[string]string{"app": "web"}}, []string{"cbb30", "caa10"}},
	} {
		t.Run(name, func(t *testing.T) {
			resp, err := newServer(t, pods()).ListContainers(t.Context(), &runtimeapi.ListContainersRequest{Filter: tt.filter})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, c := range received(t, resp).GetContainers() {
				got = append(got, c.GetId())
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("listed %v, want %v", got, tt.want)
			}
		})
	}
}

func TestAPrefixOfSeveralIDsIsAnError(t *testing.T) {
	s := newServer(t, pods())
	_, err := s.ListPodSandbox(t.Context(), &runtimeapi.ListPodSandboxRequest{Filter: &runtimeapi.PodSandboxFilter{Id: "aa"}})
	wantClass(t, err, errdefs.ErrInvalidArgument, "aa")
	_, err = s.ListContainers(t.Context(), &runtimeapi.ListContainersRequest{Filter: &runtimeapi.ContainerFilter{PodSandboxId: "aa"}})
	wantClass(t, err, errdefs.ErrInvalidArgument, "aa")
}

// What a list costs here, up to the bytes that go out.
func BenchmarkListPodSandbox1000(b *testing.B) {
	f := newFake()
	for i := range 1000 {
		spec, err := sandboxSpec(kubeletSandbox(), "vm")
		if err != nil {
			b.Fatal(err)
		}
		f.sandboxes = append(f.sandboxes, vm.Sandbox{
			ID: fmt.Sprintf("%032x", i), Spec: spec, CreatedAt: f.tick(), Status: vm.SandboxStatus{State: vm.SandboxReady},
		})
	}
	s := newServer(b, f)
	for b.Loop() {
		resp, err := s.ListPodSandbox(b.Context(), &runtimeapi.ListPodSandboxRequest{})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := proto.Marshal(resp); err != nil {
			b.Fatal(err)
		}
	}
}
