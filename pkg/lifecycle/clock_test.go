// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vmlet/vmlet/pkg/lifecycle"
)

// steppedClock is a wall clock that somebody sets: it has no monotonic reading.
type steppedClock struct{ step atomic.Int64 }

func (c *steppedClock) Now() time.Time { return time.Now().Round(0).Add(time.Duration(c.step.Load())) }

func (c *steppedClock) set(step time.Duration) { c.step.Store(int64(step)) }

func newSteppedWorld(t *testing.T) (*world, *steppedClock) {
	t.Helper()
	w, clock := newWorld(t), &steppedClock{}
	w.adjust = func(deps *lifecycle.Deps) { deps.Clock = clock }
	w.restart()
	return w, clock
}

var steps = map[string]time.Duration{"ahead": time.Hour, "back": -time.Hour}

// stopIn begins a stop of a guest that ignores it, and returns the ID of its container.
func stopIn(t *testing.T, w *world, grace time.Duration) string {
	t.Helper()
	w.hypervisor.IgnorePowerButton()
	_, c := w.running("a")
	go func() { _ = w.svc.StopContainer(t.Context(), c, grace) }() //nolint:errcheck // its caller may be gone by then
	synctest.Wait()
	return c
}

func TestASteppedClockLeavesAGraceAlone(t *testing.T) {
	const grace = 30 * time.Second
	for name, step := range steps {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, clock := newSteppedWorld(t)
				began := time.Now()
				c := stopIn(t, w, grace)
				time.Sleep(10 * time.Second)
				clock.set(step)
				if err := w.svc.StopContainer(t.Context(), c, grace); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began).Round(time.Second); took != grace {
					t.Errorf("the guest had %s of %s", took, grace)
				}
			})
		})
	}
}

func TestAStopOfAnEarlierLifeGivesNoMoreThanItsGrace(t *testing.T) {
	const grace = 30 * time.Second
	synctest.Test(t, func(t *testing.T) {
		w, clock := newSteppedWorld(t)
		c := stopIn(t, w, grace)
		clock.set(-time.Hour)
		w.restart()
		began := time.Now()
		if err := w.svc.StopContainer(t.Context(), c, 2*time.Hour); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began).Round(time.Second); took != grace {
			t.Errorf("the guest had %s of %s", took, grace)
		}
	})
}

func TestTheNextAttemptIsTheYoungestWhereverTheClockIs(t *testing.T) {
	w, clock := newSteppedWorld(t)
	sb, c := w.running("a")
	first := w.container(c).CreatedAt
	if err := w.svc.StopContainer(t.Context(), c, 0); err != nil {
		t.Fatal(err)
	}
	clock.set(-time.Hour)
	if next := w.container(w.created(sb, 1)).CreatedAt; !next.After(first) {
		t.Errorf("container attempt 1 is of %s, attempt 0 of %s", next, first)
	}
	if err := w.svc.StopSandbox(t.Context(), sb); err != nil {
		t.Fatal(err)
	}
	spec := podSpec("a")
	spec.Attempt = 1
	id, err := w.svc.RunSandbox(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	old, err := w.svc.Sandbox(sb)
	if err != nil {
		t.Fatal(err)
	}
	next, err := w.svc.Sandbox(id)
	if err != nil || !next.CreatedAt.After(old.CreatedAt) {
		t.Errorf("sandbox attempt 1 is of %s, attempt 0 of %s; %v", next.CreatedAt, old.CreatedAt, err)
	}
}
