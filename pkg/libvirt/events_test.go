// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	virt "libvirt.org/go/libvirt"

	"github.com/vmlet/vmlet/pkg/vm"
)

func expect(t *testing.T, h *Hypervisor, id string, kind vm.EventKind, detail string) {
	t.Helper()
	ev := nextEvent(t, h)
	if ev.SandboxID != id || ev.Kind != kind || ev.Detail != detail || ev.At.IsZero() {
		t.Fatalf("got %+v, want %s %q of %s", ev, kind, detail, id)
	}
}

func TestEventsTellOfOurDomainsInTheirOrder(t *testing.T) {
	s, h := newStranger(t), newTestHypervisor(t)
	dom := s.ours(testID)
	s.must(dom.Create())
	s.must(dom.Suspend())
	s.must(dom.Resume())
	s.must(dom.Destroy())
	expect(t, h, testID, vm.EventStarted, "booted")
	expect(t, h, testID, vm.EventSuspended, "paused")
	expect(t, h, testID, vm.EventResumed, "unpaused")
	expect(t, h, testID, vm.EventStopped, "destroyed")
}

func TestForeignDomainsGiveNoEvents(t *testing.T) {
	s, h := newStranger(t), newTestHypervisor(t)
	for id, owner := range map[string]string{strings.Repeat("e", 32): "", strings.Repeat("f", 32): "another node"} {
		foreign := s.define("foreign-"+id[:1], id, owner)
		s.must(foreign.Create())
		s.must(foreign.Destroy())
	}
	s.must(s.ours(testID).Create())
	expect(t, h, testID, vm.EventStarted, "booted")
}

// TestEventsComeThoughLibvirtIsBlocked: an event that comes in the very moment when the last listener leaves stays in libvirt's
// queue, and nothing behind it is sent, see unblock. Some tries hit that moment.
func TestEventsComeThoughLibvirtIsBlocked(t *testing.T) {
	s := newStranger(t)
	dom := s.ours(testID)
	s.must(dom.Create())
	subscribed := func() (*events, *session) {
		e := newEvents(&Hypervisor{cfg: Config{Owner: "nobody"}})
		one, err := openSession(testURI, e.subscribe)
		s.must(err)
		return e, one
	}
	leave := func(one *session) {
		one.unsubscribe()
		one.leave()
	}
	for try := range 100 {
		_, last := subscribed()
		enough, busy := make(chan struct{}), sync.WaitGroup{}
		busy.Go(func() {
			for more := true; more; {
				select {
				case <-enough:
					more = false
				default:
					more = dom.Suspend() == nil && dom.Resume() == nil
				}
			}
		})
		leave(last)
		close(enough)
		busy.Wait()

		e, next := subscribed()
		s.must(dom.Suspend())
		s.must(dom.Resume())
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		_, came := e.seen.take(ctx)
		cancel()
		leave(next)
		if !came {
			t.Fatalf("no event comes, after %d tries", try)
		}
	}
}

// TestASessionThatCannotBeSetUpHearsNothing: what it had subscribed to by then would keep its connection for good.
func TestASessionThatCannotBeSetUpHearsNothing(t *testing.T) {
	s := newStranger(t)
	dom := s.ours(testID)
	s.must(dom.Create())
	broken, heard := errors.New("broken"), atomic.Bool{}
	_, err := openSession(testURI, func(one *session) error {
		id, err := one.DomainEventLifecycleRegister(nil, func(*virt.Connect, *virt.Domain, *virt.DomainEventLifecycle) { heard.Store(true) })
		s.must(err)
		one.subscriptions = append(one.subscriptions, id)
		return broken
	})
	if !errors.Is(err, broken) {
		t.Fatal(err)
	}
	h := newTestHypervisor(t)
	s.must(dom.Suspend())
	expect(t, h, testID, vm.EventSuspended, "paused")
	if heard.Load() {
		t.Error("it heard of an event")
	}
}

// By the time its last event is looked at, the domain may be gone.
func TestEventsOfADomainThatIsGoneAreDelivered(t *testing.T) {
	s := newStranger(t)
	dom := s.ours(testID)
	s.must(dom.Create())
	h := newTestHypervisor(t) // it learns of the domain when it subscribes
	s.must(dom.Undefine())
	s.must(dom.Destroy())
	expect(t, h, testID, vm.EventStopped, "destroyed")

	// What it knew of the domain went with it.
	s.must(s.define(vm.DomainName(testID), testID, "").Create())
	s.must(s.ours(strings.Repeat("a", 32)).Create())
	expect(t, h, strings.Repeat("a", 32), vm.EventStarted, "booted")
}

func TestDomainThatLosesItsMarkIsNoLongerOurs(t *testing.T) {
	s, h := newStranger(t), newTestHypervisor(t)
	dom := s.ours(testID)
	s.must(dom.Create())
	s.must(dom.Destroy())
	expect(t, h, testID, vm.EventStarted, "booted")
	expect(t, h, testID, vm.EventStopped, "destroyed")
	s.must(s.define(vm.DomainName(testID), testID, "").Create())
	s.must(s.ours(strings.Repeat("a", 32)).Create())
	expect(t, h, strings.Repeat("a", 32), vm.EventStarted, "booted")
}

func TestNothingIsRememberedOfDomainsThatAreGone(t *testing.T) {
	s, h := newStranger(t), newTestHypervisor(t)
	other := strings.Repeat("a", 32)
	s.must(s.ours(other).Create())
	expect(t, h, other, vm.EventStarted, "booted")
	dom := s.ours(testID)
	s.must(dom.Create())
	expect(t, h, testID, vm.EventStarted, "booted")
	s.must(dom.Destroy())
	s.must(dom.Undefine())
	expect(t, h, testID, vm.EventStopped, "destroyed")

	again, err := s.LookupDomainByUUIDString(vm.UUIDFromID(other))
	s.must(err)
	defer free(again)
	s.must(again.Suspend())
	expect(t, h, other, vm.EventSuspended, "paused")
	if h.events.owned.has(vm.UUIDFromID(testID)) {
		t.Error("it still knows the domain that is gone")
	}
	if !h.events.owned.has(vm.UUIDFromID(other)) {
		t.Error("it has forgotten the domain that is there")
	}
}

func TestSlowListenerLosesNothing(t *testing.T) {
	s, h := newStranger(t), newTestHypervisor(t)
	dom := s.ours(testID)
	s.must(dom.Create())
	const rounds = 200
	for range rounds {
		s.must(dom.Suspend())
		s.must(dom.Resume())
	}
	expect(t, h, testID, vm.EventStarted, "booted")
	for range rounds {
		expect(t, h, testID, vm.EventSuspended, "paused")
		expect(t, h, testID, vm.EventResumed, "unpaused")
	}
}

func TestLifecycleEventsKeepLibvirtsWords(t *testing.T) {
	for _, tc := range []struct {
		event  virt.DomainEventType
		detail int
		kind   vm.EventKind
		word   string
	}{
		{virt.DOMAIN_EVENT_STARTED, int(virt.DOMAIN_EVENT_STARTED_BOOTED), vm.EventStarted, "booted"},
		{virt.DOMAIN_EVENT_SUSPENDED, int(virt.DOMAIN_EVENT_SUSPENDED_IOERROR), vm.EventSuspended, "ioerror"},
		{virt.DOMAIN_EVENT_SHUTDOWN, int(virt.DOMAIN_EVENT_SHUTDOWN_GUEST), vm.EventGuestShutdown, "guest"},
		{virt.DOMAIN_EVENT_SHUTDOWN, int(virt.DOMAIN_EVENT_SHUTDOWN_HOST), vm.EventHostShutdown, "host"},
		{virt.DOMAIN_EVENT_CRASHED, int(virt.DOMAIN_EVENT_CRASHED_PANICKED), vm.EventPanicked, "panicked"},
		{virt.DOMAIN_EVENT_STOPPED, int(virt.DOMAIN_EVENT_STOPPED_FAILED), vm.EventStopped, "failed"},
		{virt.DOMAIN_EVENT_STOPPED, 999, vm.EventStopped, "unknown"},
		{virt.DOMAIN_EVENT_DEFINED, int(virt.DOMAIN_EVENT_DEFINED_ADDED), "", "unknown"},
	} {
		kind, word := lifecycleEvent(&virt.DomainEventLifecycle{Event: tc.event, Detail: tc.detail})
		if kind != tc.kind || word != tc.word {
			t.Errorf("event %d, detail %d: %s %q, want %s %q", tc.event, tc.detail, kind, word, tc.kind, tc.word)
		}
	}
}
