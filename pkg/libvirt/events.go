// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	virt "libvirt.org/go/libvirt"

	"github.com/vmlet/vmlet/pkg/libvirt/domainxml"
	"github.com/vmlet/vmlet/pkg/vm"
)

// events turns libvirt's callbacks into the stream of vm.Event. A callback runs in the
// event loop, where a call to libvirt would wait for itself: it only enqueues. From there
// one goroutine takes, judges whose domain the event is of while that can be seen, and
// hands on to a second queue, from which another delivers as fast as the listener reads.
type events struct {
	h      *Hypervisor
	seen   *queue[rawEvent]
	judged *queue[vm.Event]
	owned  ownedSet
	out    chan vm.Event
	// removals are told at once: who waits for a device waits for its own domain's.
	removals removals
}

// rawEvent is an event as the callback saw it. An empty uuid is a reconnect.
type rawEvent struct {
	uuid string
	// lifecycle is libvirt's own kind of a lifecycle event: we listen to more than we tell.
	lifecycle virt.DomainEventType
	vm.Event
}

// noLifecycle is the lifecycle of events of other kinds.
const noLifecycle virt.DomainEventType = -1

func newEvents(h *Hypervisor) *events {
	return &events{h: h, seen: newQueue[rawEvent](), judged: newQueue[vm.Event](), out: make(chan vm.Event)}
}

// subscribe sets a session up: first the callbacks, then the list of our domains, so that
// no domain is missed between the two.
func (e *events) subscribe(s *session) error {
	if err := unblock(s); err != nil {
		return fmt.Errorf("subscribe to events: %w", err)
	}
	for _, register := range []func(*session) (int, error){
		e.onLifecycle, e.onReboot, e.onIOError, e.onAgent, e.onRemoved, e.onMemorySize,
	} {
		id, err := register(s)
		if err != nil {
			return fmt.Errorf("subscribe to events: %w", err)
		}
		s.subscriptions = append(s.subscriptions, id)
	}
	return e.h.eachOwned(s, 0, func(dom *virt.Domain, mark domainxml.Mark) error {
		p, err := presenceOf(dom)
		if err != nil {
			return err
		}
		e.owned.set(vm.UUIDFromID(mark.SandboxID), p)
		if p.active {
			e.h.shares.watch(mark.SandboxID)
		}
		return nil
	})
}

// unblock has libvirt send events again. It looks without its lock whether anybody listens, so that an event which comes just as
// its last listener leaves stays in its queue; and it sends nothing of a queue that was not empty before (its
// src/conf/object_event.c, virObjectEventStateQueueRemote). No later listener would hear of anything, but when the last one of
// them leaves in its turn the queue is emptied: that is who comes and goes here. Where another client listens by then, the queue
// was its to unblock.
func unblock(s *session) error {
	id, err := s.DomainEventLifecycleRegister(nil, func(*virt.Connect, *virt.Domain, *virt.DomainEventLifecycle) {})
	if err != nil {
		return err
	}
	return s.DomainEventDeregister(id)
}

// resumed tells the listener that events were lost, once it can ask what has become of
// the domains.
func (e *events) resumed(ctx context.Context, again bool) {
	if !again {
		return
	}
	e.h.background.Go(func() {
		if e.h.domains.waitUp(ctx) == nil && e.h.starts.waitUp(ctx) == nil {
			e.seen.put(rawEvent{Event: vm.Event{Kind: vm.EventReconnected, At: time.Now()}})
		}
	})
}

func (e *events) onLifecycle(s *session) (int, error) {
	return s.DomainEventLifecycleRegister(nil, func(_ *virt.Connect, dom *virt.Domain, ev *virt.DomainEventLifecycle) {
		kind, detail := lifecycleEvent(ev)
		e.enqueue(dom, ev.Event, kind, detail)
	})
}

func (e *events) onReboot(s *session) (int, error) {
	return s.DomainEventRebootRegister(nil, func(_ *virt.Connect, dom *virt.Domain) {
		e.enqueue(dom, noLifecycle, vm.EventRebooted, "")
	})
}

func (e *events) onIOError(s *session) (int, error) {
	return s.DomainEventIOErrorReasonRegister(nil,
		func(_ *virt.Connect, dom *virt.Domain, ev *virt.DomainEventIOErrorReason) {
			// "report" and "ignore" leave the guest running, and are its own affair.
			if ev.Action == virt.DOMAIN_EVENT_IO_ERROR_PAUSE {
				e.enqueue(dom, noLifecycle, vm.EventIOError, strings.TrimSpace(ev.SrcPath+" "+ev.Reason))
			}
		})
}

func (e *events) onAgent(s *session) (int, error) {
	return s.DomainEventAgentLifecycleRegister(nil,
		func(_ *virt.Connect, dom *virt.Domain, ev *virt.DomainEventAgentLifecycle) {
			e.enqueue(dom, noLifecycle, agentKinds[ev.State], agentReasons[ev.Reason])
		})
}

func (e *events) onRemoved(s *session) (int, error) {
	return s.DomainEventDeviceRemovedRegister(nil,
		func(_ *virt.Connect, dom *virt.Domain, ev *virt.DomainEventDeviceRemoved) {
			if uuid, err := dom.GetUUIDString(); err == nil {
				e.removals.tell(idFromUUID(uuid), ev.DevAlias)
			}
			if tap, is := domainxml.TapOfAlias(ev.DevAlias); is {
				e.enqueue(dom, noLifecycle, vm.EventNICRemoved, tap)
				return
			}
			e.enqueue(dom, noLifecycle, vm.EventDeviceRemoved, ev.DevAlias)
		})
}

func (e *events) onMemorySize(s *session) (int, error) {
	return s.DomainEventMemoryDeviceSizeChangeRegister(nil,
		func(_ *virt.Connect, dom *virt.Domain, _ *virt.DomainEventMemoryDeviceSizeChange) {
			e.enqueue(dom, noLifecycle, vm.EventMemorySize, "")
		})
}

// enqueue runs in a callback. The UUID is in the domain object: reading it is no call.
func (e *events) enqueue(dom *virt.Domain, lifecycle virt.DomainEventType, kind vm.EventKind, detail string) {
	uuid, err := dom.GetUUIDString()
	if err != nil {
		return // only for an object that is no domain
	}
	e.seen.put(rawEvent{
		uuid: uuid, lifecycle: lifecycle,
		Event: vm.Event{SandboxID: idFromUUID(uuid), Kind: kind, Detail: detail, At: time.Now()},
	})
}

// run judges and delivers until ctx ends.
func (e *events) run(ctx context.Context, background *sync.WaitGroup) {
	background.Go(func() {
		for {
			ev, ok := e.seen.take(ctx)
			if !ok {
				return
			}
			if e.concernsUs(ctx, ev) {
				e.judged.put(ev.Event)
			}
		}
	})
	background.Go(func() {
		for {
			ev, ok := e.judged.take(ctx)
			if !ok {
				return
			}
			select {
			case e.out <- ev:
			case <-ctx.Done():
				return
			}
		}
	})
}

// concernsUs judges an event, and keeps the set of our domains true.
func (e *events) concernsUs(ctx context.Context, ev rawEvent) bool {
	if ev.uuid == "" {
		return true
	}
	// A new definition may bring a mark, or take it away.
	if !e.owned.has(ev.uuid) || ev.lifecycle == virt.DOMAIN_EVENT_DEFINED {
		e.judge(ctx, ev)
	}
	ours := e.owned.has(ev.uuid)
	switch ev.lifecycle {
	case virt.DOMAIN_EVENT_STARTED:
		e.owned.change(ev.uuid, func(p *presence) { p.active = true })
	case virt.DOMAIN_EVENT_STOPPED:
		e.owned.change(ev.uuid, func(p *presence) { p.active = false })
	case virt.DOMAIN_EVENT_UNDEFINED:
		e.owned.change(ev.uuid, func(p *presence) { p.defined = false })
		e.h.dropHandles(ev.uuid)
	default: // the domain is there as it was
	}
	return ours && ev.Kind != ""
}

// judge looks whether the domain of an event has our mark. Where libvirt cannot tell, what
// we knew stays: either the domain is gone, and more of its events follow, or so is the
// connection, and the listener will list the domains when that is back.
func (e *events) judge(ctx context.Context, ev rawEvent) {
	p, err := call(ctx, e.h.eventConn, "judge an event", ev.SandboxID, func(s *session) (presence, error) {
		dom, err := e.h.find(s, ev.SandboxID)
		if err != nil {
			return presence{}, err
		}
		defer free(dom)
		return presenceOf(dom)
	})
	switch {
	case err == nil:
		e.owned.set(ev.uuid, p)
	case errdefs.IsFailedPrecondition(err):
		e.owned.forget(ev.uuid)
	}
}

func presenceOf(dom *virt.Domain) (presence, error) {
	active, err := dom.IsActive()
	if err != nil {
		return presence{}, fmt.Errorf("ask whether the domain is active: %w", err)
	}
	defined, err := dom.IsPersistent()
	if err != nil {
		return presence{}, fmt.Errorf("ask whether the domain is persistent: %w", err)
	}
	return presence{defined: defined, active: active}, nil
}

func idFromUUID(uuid string) string { return strings.ReplaceAll(uuid, "-", "") }
