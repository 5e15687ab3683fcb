// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"sync"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/tests/harness"
)

// criEvents tells when a client of GetContainerEvents hears of the ends of containers.
type criEvents struct {
	mu   sync.Mutex
	ends map[string]chan time.Time // by container
}

// listenCRI listens until ctx ends.
func listenCRI(ctx context.Context, node *harness.Node) (*criEvents, error) {
	stream, err := node.GetContainerEvents(ctx, &runtimeapi.GetEventsRequest{})
	if err != nil {
		return nil, err
	}
	// It comes once the daemon listens on our behalf.
	if _, err := stream.Header(); err != nil {
		return nil, err
	}
	e := &criEvents{ends: map[string]chan time.Time{}}
	go func() {
		for {
			event, err := stream.Recv()
			if err != nil {
				return
			}
			if event.GetContainerEventType() == runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT {
				e.end(event.GetContainerId()) <- time.Now()
			}
		}
	}()
	return e, nil
}

func (e *criEvents) end(container string) chan time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ends[container] == nil {
		e.ends[container] = make(chan time.Time, 1)
	}
	return e.ends[container]
}

// delay is how much later than libvirt's event the client heard of a container's end.
func (e *criEvents) delay(ctx context.Context, container string, stopped <-chan time.Time) (time.Duration, error) {
	var at, heard time.Time
	for at.IsZero() || heard.IsZero() {
		select {
		case at = <-stopped:
		case heard = <-e.end(container):
		case <-ctx.Done():
			return 0, fmt.Errorf("end of container %s: libvirt at %v, the client at %v: %w", container, at, heard, ctx.Err())
		}
	}
	return heard.Sub(at), nil
}
