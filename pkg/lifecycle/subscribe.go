// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"sync"

	"github.com/vmlet/vmlet/pkg/vm"
)

// eventBacklog is how many events wait for one subscriber.
const eventBacklog = 1024

// SubscribeEvents tells of every container and sandbox that was created, started, stopped
// or deleted, at the moment when that is on record, until ctx ends. The channel is closed
// then, and also when its reader has fallen so far behind that an event is lost: it must
// list everything anew, as at its start.
func (s *Service) SubscribeEvents(ctx context.Context) <-chan vm.ContainerEvent {
	ch := s.events.add()
	context.AfterFunc(ctx, func() { s.events.remove(ch) })
	return ch
}

// subscribers are those who are told of changes.
type subscribers struct {
	mu  sync.Mutex
	set map[chan vm.ContainerEvent]bool
}

func (s *subscribers) add() chan vm.ContainerEvent {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.set == nil {
		s.set = map[chan vm.ContainerEvent]bool{}
	}
	ch := make(chan vm.ContainerEvent, eventBacklog)
	s.set[ch] = true
	return ch
}

// remove closes a channel, once.
func (s *subscribers) remove(ch chan vm.ContainerEvent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.set[ch] {
		delete(s.set, ch)
		close(ch)
	}
}

// tell never blocks.
func (s *subscribers) tell(e vm.ContainerEvent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ch := range s.set {
		select {
		case ch <- e:
		default:
			delete(s.set, ch)
			close(ch)
		}
	}
}

// containerEvents and sandboxEvents are what a record's new state means to clients. A
// sandbox starts to run as it comes to be.
var (
	containerEvents = map[vm.ContainerState][]vm.ContainerEventKind{
		vm.ContainerCreated: {vm.ContainerCreatedEvent},
		vm.ContainerRunning: {vm.ContainerStartedEvent},
		vm.ContainerExited:  {vm.ContainerStoppedEvent},
	}
	sandboxEvents = map[vm.SandboxState][]vm.ContainerEventKind{
		vm.SandboxReady:    {vm.ContainerCreatedEvent, vm.ContainerStartedEvent},
		vm.SandboxNotReady: {vm.ContainerStoppedEvent},
	}
)

func (s *Service) tellOf(sandboxID, id string, kinds ...vm.ContainerEventKind) {
	for _, kind := range kinds {
		s.events.tell(vm.ContainerEvent{ContainerID: id, SandboxID: sandboxID, Kind: kind, At: s.now()})
	}
}
