// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/vm"
)

var eventTypes = map[vm.ContainerEventKind]runtimeapi.ContainerEventType{
	vm.ContainerCreatedEvent: runtimeapi.ContainerEventType_CONTAINER_CREATED_EVENT,
	vm.ContainerStartedEvent: runtimeapi.ContainerEventType_CONTAINER_STARTED_EVENT,
	vm.ContainerStoppedEvent: runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT,
	vm.ContainerDeletedEvent: runtimeapi.ContainerEventType_CONTAINER_DELETED_EVENT,
}

// GetContainerEvents tells of what happens from now on, also to sandboxes, which are events
// with the sandbox's ID as in containerd. The client has the stream's header once it misses
// nothing any more. Each event comes with what is on record when it is sent, which may be
// newer than the event. A client that reads too slowly is cut off with Unavailable: it
// lists and asks again.
func (s *Server) GetContainerEvents(_ *runtimeapi.GetEventsRequest, stream grpc.ServerStreamingServer[runtimeapi.ContainerEventResponse]) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	events := s.svc.SubscribeEvents(ctx)
	if err := stream.SendHeader(metadata.MD{}); err != nil {
		return err
	}
	for event := range events {
		response, err := s.containerEvent(ctx, event)
		if err != nil {
			return err
		}
		if err := stream.Send(response); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return fmt.Errorf("events came faster than they were read, list and ask anew: %w", errdefs.ErrUnavailable)
}

// containerEvent adds what the event is about. A sandbox that is gone has no status: "ID of
// the container" is all that is left to tell.
func (s *Server) containerEvent(ctx context.Context, e vm.ContainerEvent) (*runtimeapi.ContainerEventResponse, error) {
	response := &runtimeapi.ContainerEventResponse{
		ContainerId:        e.ContainerID,
		ContainerEventType: eventTypes[e.Kind],
		CreatedAt:          nanos(e.At),
	}
	sb, err := s.svc.Sandbox(e.SandboxID)
	if errors.Is(err, errdefs.ErrNotFound) {
		return response, nil
	}
	if err != nil {
		return nil, err
	}
	response.PodSandboxStatus, response.ContainersStatuses = podSandboxStatus(sb), s.statusesOf(ctx, sb.ID)
	return response, nil
}
