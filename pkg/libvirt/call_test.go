// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	virt "libvirt.org/go/libvirt"
)

// hang occupies all slots of a connection until release is called.
func hang(t *testing.T, c *conn) (release func()) {
	t.Helper()
	gate, began := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	for range callsInFlight {
		wg.Go(func() {
			// The test's own context ends before its cleanup.
			if err := run(context.WithoutCancel(t.Context()), c, "hang", "", func(*session) error {
				began <- struct{}{}
				<-gate
				return nil
			}); err != nil {
				t.Error(err)
			}
		})
	}
	for range callsInFlight {
		<-began
	}
	release = sync.OnceFunc(func() { close(gate); wg.Wait() })
	t.Cleanup(release)
	return release
}

func TestNoMoreCallsRunThanThereAreSlots(t *testing.T) {
	h := newTestHypervisor(t)
	release := hang(t, h.domains)
	entered, ended := make(chan struct{}), make(chan error)
	go func() {
		ended <- run(t.Context(), h.domains, "one more", "", func(*session) error { close(entered); return nil })
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err := run(ctx, h.domains, "wait for a slot", testID, func(*session) error { t.Error("it ran"); return nil })
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want DeadlineExceeded", err)
	}
	select {
	case <-entered:
		t.Error("it ran beside as many as there are slots")
	default:
	}
	release()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestNothingBeginsForACallerThatIsGone(t *testing.T) {
	h := newTestHypervisor(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 50 { // a free slot and an ended ctx would be a toss-up
		err := run(ctx, h.domains, "define domain", testID, func(*session) error { t.Error("it ran"); return nil })
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v, want Canceled", err)
		}
	}
}

func TestCallersLeaveAHangingCallAndItsSlotComesBack(t *testing.T) {
	h := newTestHypervisor(t)
	gate := make(chan struct{})
	for range callsInFlight {
		ctx, cancel := context.WithCancel(t.Context())
		err := run(ctx, h.domains, "hang", "", func(*session) error {
			cancel()
			<-gate
			return nil
		})
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v, want Canceled", err)
		}
	}
	close(gate)
	if err := run(t.Context(), h.domains, "ask", "", ping); err != nil {
		t.Error(err)
	}
}

// Hung calls into one guest's agent must not stop anything else.
func TestConnectionsDoNotHoldUpEachOther(t *testing.T) {
	h := newTestHypervisor(t)
	hang(t, h.agentConn)
	hang(t, h.starts)
	hang(t, h.buttons)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := h.Ready(ctx); err != nil {
		t.Error(err)
	}
	if _, err := h.Domains(ctx); err != nil {
		t.Error(err)
	}
}

func TestReadyDoesNotWaitForBusySlots(t *testing.T) {
	h := newTestHypervisor(t)
	hang(t, h.domains)
	if err := h.Ready(t.Context()); err != nil {
		t.Errorf("with all slots for domains taken: %v", err)
	}
	hang(t, h.eventConn)
	if err := h.Ready(t.Context()); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("with a libvirt that answers nothing: %v, want Unavailable", err)
	}
}

func TestObserverHearsOfEachCall(t *testing.T) {
	h := newTestHypervisor(t)
	var mu sync.Mutex
	heard := map[string]error{}
	h.domains.observe = func(operation string, took time.Duration, err error) {
		mu.Lock()
		defer mu.Unlock()
		heard[operation] = err
	}
	_, listErr := h.Domains(t.Context())
	resumeErr := h.Resume(t.Context(), testID)
	if listErr != nil || resumeErr == nil {
		t.Fatalf("list: %v, resume: %v", listErr, resumeErr)
	}
	mu.Lock()
	defer mu.Unlock()
	if err, ok := heard["list domains"]; !ok || err != nil {
		t.Errorf("list domains: %v, %v", ok, err)
	}
	if err := heard["resume domain"]; !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("resume domain: %v, want NotFound", err)
	}
}

func TestAgentIsGivenTheTimeThatTheCallerHas(t *testing.T) {
	if got := agentTimeout(t.Context()); got != virt.DOMAIN_QEMU_AGENT_COMMAND_DEFAULT {
		t.Errorf("without a deadline: %d", got)
	}
	for in, want := range map[time.Duration]virt.DomainQemuAgentCommandTimeout{
		time.Minute + time.Millisecond: 61, 1500 * time.Millisecond: 2, 10 * time.Millisecond: 1, -time.Second: 1,
	} {
		ctx, cancel := context.WithTimeout(t.Context(), in)
		if got := agentTimeout(ctx); got != want {
			t.Errorf("with %s left: %d s, want %d", in, got, want)
		}
		cancel()
	}
}
