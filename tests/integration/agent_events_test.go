// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/tests/harness"
)

// TestContainerEventsOfAWholeLife: what kubelet's evented PLEG is told, in its order.
func TestContainerEventsOfAWholeLife(t *testing.T) {
	node := harness.StartNode(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := node.GetContainerEvents(ctx, &runtimeapi.GetEventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	events := make(chan *runtimeapi.ContainerEventResponse, 100)
	go func() {
		defer close(events)
		for {
			e, err := stream.Recv()
			if err != nil {
				return
			}
			events <- e
		}
	}()
	// A call is answered when the stream is served; the header says that it is.
	if _, err := stream.Header(); err != nil {
		t.Fatal(err)
	}
	pod := node.Run(harness.Pod{Name: "life", Command: []string{"sh", "-c", "exit 3"}})
	pod.WaitExited()
	pod.Remove()

	name := map[string]string{pod.ContainerID: "container", pod.SandboxID: "sandbox"}
	want := []string{
		"sandbox CONTAINER_CREATED_EVENT", "sandbox CONTAINER_STARTED_EVENT",
		"container CONTAINER_CREATED_EVENT", "container CONTAINER_STARTED_EVENT", "container CONTAINER_STOPPED_EVENT",
		"sandbox CONTAINER_STOPPED_EVENT", "container CONTAINER_DELETED_EVENT", "sandbox CONTAINER_DELETED_EVENT",
	}
	var got []string
	for len(got) < len(want) {
		select {
		case e := <-events:
			got = append(got, fmt.Sprintf("%s %s", name[e.GetContainerId()], e.GetContainerEventType()))
			// What is removed by the time an event is sent has no status.
			if sb := e.GetPodSandboxStatus(); sb != nil && sb.GetId() != pod.SandboxID {
				t.Errorf("%s is of sandbox %q", got[len(got)-1], sb.GetId())
			}
			if e.GetContainerEventType() == runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT && e.GetContainerId() == pod.ContainerID {
				if st := e.GetContainersStatuses(); len(st) != 1 || st[0].GetExitCode() != 3 {
					t.Errorf("the exit's event has the statuses %v", st)
				}
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("no more events came than %q", got)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}
