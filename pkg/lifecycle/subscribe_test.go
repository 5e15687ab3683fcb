// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/vmlet/vmlet/pkg/vm"
)

// told collects events until one of this kind of this ID has come.
func told(t *testing.T, events <-chan vm.ContainerEvent, id string, kind vm.ContainerEventKind) (got []vm.ContainerEvent) {
	t.Helper()
	for {
		select {
		case e, more := <-events:
			if !more {
				t.Fatalf("the channel was closed after %+v", got)
			}
			got = append(got, e)
			if e.ContainerID == id && e.Kind == kind {
				return got
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("no %s of %s after %+v", kind, id, got)
		}
	}
}

func TestEveryStepOfALifeIsTold(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	events := w.svc.SubscribeEvents(ctx)
	sb, c := w.running("a")
	w.hypervisor.PowerOff(sb)
	w.exit(c)
	if err := w.svc.RemoveContainer(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if err := w.svc.RemoveSandbox(t.Context(), sb); err != nil {
		t.Fatal(err)
	}
	var lives []string
	for _, e := range told(t, events, sb, vm.ContainerDeletedEvent) {
		who := "sandbox"
		if e.ContainerID == c {
			who = "container"
		}
		if e.SandboxID != sb || e.At.IsZero() {
			t.Errorf("event = %+v", e)
		}
		lives = append(lives, who+" "+string(e.Kind))
	}
	want := []string{
		"sandbox created", "sandbox started", "container created", "container started", "container stopped",
		"container deleted", "sandbox stopped", "sandbox deleted",
	}
	if !slices.Equal(lives, want) {
		t.Errorf("told %v, want %v", lives, want)
	}
	cancel()
	if _, more := <-events; more {
		t.Error("more events than steps, or the channel was not closed")
	}
}

func TestAnEventComesWhenTheRecordHasChangedAlready(t *testing.T) {
	w := newWorld(t)
	events := w.svc.SubscribeEvents(t.Context())
	sb, c := w.running("a")
	w.hypervisor.PowerOff(sb)
	told(t, events, c, vm.ContainerStoppedEvent)
	if got := w.container(c).Status; got.State != vm.ContainerExited || got.Exit == nil {
		t.Errorf("status = %+v", got)
	}
}

func TestASubscriberThatFallsBehindIsCutOffAndHoldsUpNobody(t *testing.T) {
	w := newWorld(t)
	slow, quick := w.svc.SubscribeEvents(t.Context()), w.svc.SubscribeEvents(t.Context())
	sb := w.sandbox("a")
	told(t, quick, sb, vm.ContainerStartedEvent)
	var last string
	for attempt := range uint32(600) { // each supersedes the one before: two events
		last = w.created(sb, attempt)
		told(t, quick, last, vm.ContainerCreatedEvent)
	}
	n := 0
	for more := true; more; {
		select {
		case _, more = <-slow:
			n++
		case <-time.After(10 * time.Second):
			t.Fatal("the slow one was not cut off")
		}
	}
	if n != 1024+1 { // and the channel's end
		t.Errorf("the slow one had %d events", n)
	}
}
