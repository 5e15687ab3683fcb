// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"errors"
	"testing"

	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/vm"
)

func TestEventsCarryWhatTheyAreAbout(t *testing.T) {
	f := pods()
	f.events = []vm.ContainerEvent{
		{ContainerID: "caa10", SandboxID: "aa10", Kind: vm.ContainerStoppedEvent, At: f.now},
		{ContainerID: "aa20", SandboxID: "aa20", Kind: vm.ContainerStartedEvent, At: f.now},
		{ContainerID: "gone", SandboxID: "gone", Kind: vm.ContainerDeletedEvent, At: f.now},
	}
	out := newSink[runtimeapi.ContainerEventResponse](t)
	err := newServer(t, f).GetContainerEvents(&runtimeapi.GetEventsRequest{}, out)
	// The fake's channel ends as that of a reader who is too slow.
	if !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("the end is %v", err)
	}
	if !out.header || len(out.sent) != 3 {
		t.Fatalf("header: %v, %d events", out.header, len(out.sent))
	}
	stopped, started, deleted := out.sent[0], out.sent[1], out.sent[2]
	if stopped.GetContainerId() != "caa10" || stopped.GetContainerEventType() != runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT ||
		stopped.GetCreatedAt() != f.now.UnixNano() {
		t.Errorf("the first event is %v", stopped)
	}
	if stopped.GetPodSandboxStatus().GetId() != "aa10" || len(stopped.GetContainersStatuses()) != 1 || stopped.GetContainersStatuses()[0].GetId() != "caa10" {
		t.Errorf("it comes with %v and %v", stopped.GetPodSandboxStatus(), stopped.GetContainersStatuses())
	}
	if started.GetContainerEventType() != runtimeapi.ContainerEventType_CONTAINER_STARTED_EVENT || started.GetPodSandboxStatus().GetId() != "aa20" {
		t.Errorf("the second event is %v", started)
	}
	// A kubelet takes a status without metadata down with it; none is what it looks for.
	if deleted.GetContainerEventType() != runtimeapi.ContainerEventType_CONTAINER_DELETED_EVENT || deleted.GetPodSandboxStatus() != nil {
		t.Errorf("the third event is %v", deleted)
	}
}

func TestEventsEndWithTheirReader(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	out := newSink[runtimeapi.ContainerEventResponse](t)
	out.ctx = ctx
	if err := newServer(t, newFake()).GetContainerEvents(&runtimeapi.GetEventsRequest{}, out); !errors.Is(err, context.Canceled) {
		t.Errorf("the end is %v", err)
	}
}

func TestEveryKindOfEventHasAType(t *testing.T) {
	for _, kind := range []vm.ContainerEventKind{vm.ContainerCreatedEvent, vm.ContainerStartedEvent, vm.ContainerStoppedEvent, vm.ContainerDeletedEvent} {
		if _, ok := eventTypes[kind]; !ok {
			t.Errorf("%s has none", kind)
		}
	}
	if len(eventTypes) != len(runtimeapi.ContainerEventType_name) {
		t.Errorf("%d kinds for %d types", len(eventTypes), len(runtimeapi.ContainerEventType_name))
	}
}
