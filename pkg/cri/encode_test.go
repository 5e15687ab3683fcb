// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/vm"
)

// listed is what a client gets when one record is listed.
func listed(t *testing.T, sb vm.Sandbox, c vm.Container) (*runtimeapi.PodSandbox, *runtimeapi.Container) {
	t.Helper()
	svc := newFake()
	svc.sandboxes, svc.containers = []vm.Sandbox{sb}, []vm.Container{c}
	s := newServer(t, svc)
	pods, err := s.ListPodSandbox(t.Context(), &runtimeapi.ListPodSandboxRequest{})
	if err != nil {
		t.Fatal(err)
	}
	containers, err := s.ListContainers(t.Context(), &runtimeapi.ListContainersRequest{})
	if err != nil {
		t.Fatal(err)
	}
	gotPods, gotContainers := received(t, pods), received(t, containers)
	if len(gotPods.GetItems()) != 1 || len(gotContainers.GetContainers()) != 1 ||
		len(gotPods.ProtoReflect().GetUnknown())+len(gotContainers.ProtoReflect().GetUnknown()) != 0 {
		t.Fatalf("got %v and %v, want one each and nothing else", gotPods, gotContainers)
	}
	return gotPods.GetItems()[0], gotContainers.GetContainers()[0]
}

func TestListedItemsAreWhatTheAPISays(t *testing.T) {
	long := strings.Repeat("x", 300) // a length of two bytes, within one of three
	labels := map[string]string{"a": "1", "empty": "", "": "nameless", "long": long}
	annotations := map[string]string{"huge": strings.Repeat(long, 60)}
	sb := vm.Sandbox{
		ID: "s1", CreatedAt: time.Unix(1, 2), Status: vm.SandboxStatus{State: vm.SandboxNotReady},
		Spec: vm.SandboxSpec{
			Name: "web", Namespace: "shop", UID: "u", Attempt: 7, RuntimeHandler: "vm", Labels: labels, Annotations: annotations,
		},
	}
	c := vm.Container{
		ID: "c1", SandboxID: "s1", CreatedAt: time.Unix(3, 4), Status: vm.ContainerStatus{State: vm.ContainerExited},
		Spec: vm.ContainerSpec{
			Name: "vm", Attempt: 9, ImageRef: "sha256:11", UserSpecifiedImage: "web:1", ImageID: "sha256:11",
			Labels: labels, Annotations: annotations,
		},
	}
	pod, container := listed(t, sb, c)
	if diff := cmp.Diff(&runtimeapi.PodSandbox{
		Id: "s1", CreatedAt: 1_000_000_002, State: runtimeapi.PodSandboxState_SANDBOX_NOTREADY, RuntimeHandler: "vm",
		Metadata: &runtimeapi.PodSandboxMetadata{Name: "web", Namespace: "shop", Uid: "u", Attempt: 7},
		Labels:   labels, Annotations: annotations,
	}, pod, protocmp.Transform()); diff != "" {
		t.Errorf("sandbox (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(&runtimeapi.Container{
		Id: "c1", PodSandboxId: "s1", CreatedAt: 3_000_000_004, State: runtimeapi.ContainerState_CONTAINER_EXITED,
		Metadata: &runtimeapi.ContainerMetadata{Name: "vm", Attempt: 9},
		Image:    &runtimeapi.ImageSpec{Image: "web:1", UserSpecifiedImage: "web:1"},
		ImageRef: "sha256:11", ImageId: "sha256:11", Labels: labels, Annotations: annotations,
	}, container, protocmp.Transform()); diff != "" {
		t.Errorf("container (-want +got):\n%s", diff)
	}
}

func TestEmptyListsAreEmptyMessages(t *testing.T) {
	s := newServer(t, newFake())
	pods, err := s.ListPodSandbox(t.Context(), &runtimeapi.ListPodSandboxRequest{})
	if err != nil || proto.Size(pods) != 0 {
		t.Errorf("got %v, %v", pods, err)
	}
}

// The two encoders, ours and protobuf's, tell the same of the same records.
func FuzzLists(f *testing.F) {
	f.Add("id", "name", "key", "value", uint32(3), int64(1))
	f.Add("", "", "", strings.Repeat("v", 300), uint32(0), int64(0))
	f.Fuzz(func(t *testing.T, id, name, key, value string, attempt uint32, at int64) {
		for _, s := range []*string{&id, &name, &key, &value} {
			*s = strings.ToValidUTF8(*s, "") // as everything that came in a message is
		}
		labels := map[string]string{key: value, name: id}
		sb := vm.Sandbox{ID: id, CreatedAt: time.Unix(0, at), Spec: vm.SandboxSpec{
			Name: name, UID: key, Namespace: value, Attempt: attempt, Labels: labels, Annotations: labels, RuntimeHandler: key,
		}}
		c := vm.Container{ID: id, SandboxID: name, CreatedAt: time.Unix(0, at), Spec: vm.ContainerSpec{
			Name: name, Attempt: attempt, ImageRef: key, ImageID: value, Labels: labels, Annotations: labels,
		}}
		pod, container := listed(t, sb, c)
		wantPod, wantContainer := podSandboxStatus(sb), containerStatus(c, value)
		if diff := cmp.Diff(&runtimeapi.PodSandbox{
			Id: wantPod.GetId(), Metadata: wantPod.GetMetadata(), State: wantPod.GetState(), CreatedAt: wantPod.GetCreatedAt(),
			Labels: wantPod.GetLabels(), Annotations: wantPod.GetAnnotations(), RuntimeHandler: wantPod.GetRuntimeHandler(),
		}, pod, protocmp.Transform()); diff != "" {
			t.Errorf("sandbox (-status +listed):\n%s", diff)
		}
		if diff := cmp.Diff(&runtimeapi.Container{
			Id: wantContainer.GetId(), PodSandboxId: name, Metadata: wantContainer.GetMetadata(), Image: wantContainer.GetImage(),
			ImageRef: value, State: wantContainer.GetState(), CreatedAt: wantContainer.GetCreatedAt(),
			Labels: labels, Annotations: labels, ImageId: wantContainer.GetImageId(),
		}, container, protocmp.Transform()); diff != "" {
			t.Errorf("container (-status +listed):\n%s", diff)
		}
	})
}
