// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// clockIs proves that a guest's clock was set to what it was at that time, or never was.
func (w *world) clockIs(sandbox string, want time.Time) {
	w.t.Helper()
	synctest.Wait()
	if got := w.guest.Clock(sandbox); !got.Equal(want) {
		w.t.Errorf("the clock was set to %s, want %s", got, want)
	}
}

func TestTheClockIsSetAfterAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.running("a")
		w.must(w.svc.Resume(t.Context(), c)) // it was not paused
		w.clockIs(sb, time.Time{})
		w.must(w.svc.Pause(t.Context(), c))
		time.Sleep(time.Hour)
		w.clockIs(sb, time.Time{})
		w.must(w.svc.Resume(t.Context(), c))
		w.clockIs(sb, time.Now())
	})
}

func TestTheClockIsSetWhenTheGuestAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.running("a")
		w.must(w.svc.Pause(t.Context(), c))
		w.guest.SetSilent(sb, true)
		w.guest.FailNext("SetClock", errdefs.ErrUnavailable)
		w.must(w.svc.Resume(t.Context(), c))
		time.Sleep(time.Minute)
		w.clockIs(sb, time.Time{})
		w.guest.SetSilent(sb, false)
		w.clockIs(sb, time.Now())
	})
}

// A guest that cannot be told is not asked for ever.
func TestAGuestThatCannotSetItsClockIsLeftAlone(t *testing.T) {
	for name, fail := range map[string]func(w *world, sb string){
		"an agent that cannot": func(w *world, _ string) { w.guest.FailNext("SetClock", errdefs.ErrNotImplemented) },
		"no agent":             func(w *world, sb string) { w.guest.SetSilent(sb, true) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				sb, c := w.running("a")
				w.must(w.svc.Pause(t.Context(), c))
				fail(w, sb)
				w.must(w.svc.Resume(t.Context(), c))
				time.Sleep(10 * time.Minute)
				w.guest.SetSilent(sb, false)
				time.Sleep(time.Minute)
				w.clockIs(sb, time.Time{})
			})
		})
	}
}

func TestTheClockIsSetAfterAMemorySnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.running("a")
		_, err := w.take(sb, "m", true)
		w.must(err)
		time.Sleep(time.Hour)
		w.must(w.svc.RestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: "m", Paused: true}))
		w.clockIs(sb, time.Time{})
		w.must(w.svc.Resume(t.Context(), c))
		w.clockIs(sb, time.Now())
		time.Sleep(time.Hour)
		w.must(w.svc.RestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: "m"}))
		w.clockIs(sb, time.Now())
	})
}
