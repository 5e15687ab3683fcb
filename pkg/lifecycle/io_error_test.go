// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vmlet/vmlet/pkg/lifecycle"
	"github.com/vmlet/vmlet/pkg/lifecycle/lifecycletest"
	"github.com/vmlet/vmlet/pkg/vm"
)

func (w *world) stateOf(sandboxID string) vm.DomainState {
	w.t.Helper()
	d, err := w.hypervisor.Domain(w.t.Context(), sandboxID)
	if err != nil {
		w.t.Fatal(err)
	}
	return d.State
}

// afterRests waits for so long, and expects the guest in that state.
func (w *world) afterRests(sandboxID string, wait time.Duration, want vm.DomainState) {
	w.t.Helper()
	time.Sleep(wait)
	synctest.Wait()
	if got := w.stateOf(sandboxID); got != want {
		w.t.Errorf("after %s the guest is %s, want %s", wait, got, want)
	}
}

func TestAGuestWhoseDiskFailedGoesOnAfterARest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.running("a")
		w.hypervisor.IOError(sb)
		time.Sleep(3 * time.Second)
		w.hypervisor.IOError(sb) // another request of the same disk
		w.afterRests(sb, time.Second, vm.DomainPaused)
		w.afterRests(sb, 2*time.Second, vm.DomainRunning)

		w.hypervisor.IOError(sb) // the disk is still full
		w.afterRests(sb, 3*time.Second, vm.DomainPaused)
		w.afterRests(sb, 3*time.Second, vm.DomainRunning)
	})
}

// failsAgain is a hypervisor whose guests' disks fail once more before a call that lets them go on returns.
type failsAgain struct {
	*lifecycletest.Hypervisor
	times atomic.Int32
}

func (h *failsAgain) Resume(ctx context.Context, id string) error {
	err := h.Hypervisor.Resume(ctx, id)
	if h.times.Add(-1) >= 0 {
		h.IOError(id)
		time.Sleep(time.Second) // in which the event is heard
	}
	return err
}

func TestAGuestWhoseDiskFailsAtOnceGoesOnInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		h := &failsAgain{Hypervisor: w.hypervisor}
		w.adjust = func(deps *lifecycle.Deps) { deps.Hypervisor = h }
		w.restart()
		sb, _ := w.running("a")
		h.times.Store(2)
		w.hypervisor.IOError(sb)
		w.afterRests(sb, 10*time.Second, vm.DomainPaused)
		w.afterRests(sb, 10*time.Second, vm.DomainRunning)
	})
}

func TestAGuestWhoseDiskFailedGoesOnThoughNobodyIsThereToRemember(t *testing.T) {
	for name, miss := range map[string]func(w *world, sb string){
		"vmlet was away": func(w *world, sb string) { w.hypervisor.IOError(sb); synctest.Wait(); w.restart() },
		"libvirt was away": func(w *world, sb string) {
			w.hypervisor.Disconnect()
			w.hypervisor.IOError(sb)
			w.hypervisor.Reconnect()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				sb, _ := w.running("a")
				miss(w, sb)
				w.afterRests(sb, 6*time.Second, vm.DomainRunning)
			})
		})
	}
}
