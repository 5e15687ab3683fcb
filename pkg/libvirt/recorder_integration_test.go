// SPDX-License-Identifier: Apache-2.0

//go:build integration

package libvirt

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vmlet/vmlet/pkg/vm"
)

// recorder collects what a Hypervisor's events tell.
type recorder struct {
	mu    sync.Mutex
	all   []vm.Event
	taken map[string]int // per sandbox, how many of all were waited for
	more  chan struct{}
}

func record(tb testing.TB, h *Hypervisor) *recorder {
	tb.Helper()
	r := &recorder{taken: map[string]int{}, more: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case ev := <-h.Events():
				r.mu.Lock()
				r.all = append(r.all, ev)
				r.mu.Unlock()
				select {
				case r.more <- struct{}{}:
				default:
				}
			case <-ctx.Done():
				return
			}
		}
	})
	tb.Cleanup(func() { cancel(); wg.Wait() })
	return r
}

// wait returns the next event of a sandbox of this kind; those before it are passed over.
func (r *recorder) wait(tb testing.TB, id string, kind vm.EventKind) vm.Event {
	tb.Helper()
	timeout := time.After(patience)
	for {
		r.mu.Lock()
		for i := r.taken[id]; i < len(r.all); i++ {
			if ev := r.all[i]; ev.SandboxID == id && ev.Kind == kind {
				r.taken[id] = i + 1
				r.mu.Unlock()
				return ev
			}
		}
		r.mu.Unlock()
		select {
		case <-r.more:
		case <-timeout:
			tb.Fatalf("no event %s; there were: %s", kind, r.story(id, time.Time{}))
		}
	}
}

// last returns the last event of a sandbox of this kind.
func (r *recorder) last(id string, kind vm.EventKind) vm.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, ev := range slices.Backward(r.all) {
		if ev.SandboxID == id && ev.Kind == kind {
			return ev
		}
	}
	return vm.Event{}
}

// story lists a sandbox's events since then, as "Kind/detail".
func (r *recorder) story(id string, since time.Time) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, ev := range r.all {
		if ev.SandboxID == id && !ev.At.Before(since) {
			out = append(out, strings.TrimSuffix(string(ev.Kind)+"/"+ev.Detail, "/"))
		}
	}
	return strings.Join(out, " ")
}
