// SPDX-License-Identifier: Apache-2.0

package image

import (
	"sync"
	"time"

	"github.com/vmlet/vmlet/pkg/vm"
)

// The phases of vm.PullProgress.
const (
	phaseResolving   = "resolving"
	phaseDownloading = "downloading"
	phaseVerifying   = "verifying"
	phaseDone        = "done"
)

// reportEvery bounds how often progress within a phase is told.
const reportEvery = 100 * time.Millisecond

// audience tells progress to all who wait for one piece of work. It calls one function at
// a time, and none after it has left.
type audience struct {
	mu        sync.Mutex
	listeners map[int]func(vm.PullProgress)
	next      int
	last      vm.PullProgress
}

// join adds a listener, who hears at once how far the work is, and returns the function
// that takes it away. listener may be nil.
func (a *audience) join(listener func(vm.PullProgress)) (leave func()) {
	if listener == nil {
		return func() {}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.listeners == nil {
		a.listeners = map[int]func(vm.PullProgress){}
	}
	key := a.next
	a.next++
	a.listeners[key] = listener
	if a.last.Phase != "" {
		listener(a.last)
	}
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.listeners, key)
	}
}

func (a *audience) tell(p vm.PullProgress) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last = p
	for _, listener := range a.listeners {
		listener(p)
	}
}

// meter counts the bytes of one transfer and tells of them now and then. It may be used by
// one goroutine after another.
type meter struct {
	tell  func(vm.PullProgress)
	now   func() time.Time
	told  time.Time
	state vm.PullProgress
}

// newMeter begins with the phase downloading; total is 0 if it is not known.
func newMeter(tell func(vm.PullProgress), now func() time.Time, total int64) *meter {
	m := &meter{tell: tell, now: now, state: vm.PullProgress{Phase: phaseDownloading, Total: total}}
	m.tell(m.state)
	return m
}

func (m *meter) add(bytes int64) {
	m.state.Done += bytes
	if now := m.now(); now.Sub(m.told) >= reportEvery {
		m.told = now
		m.tell(m.state)
	}
}

func (m *meter) phase(name string) {
	m.state.Phase = name
	m.tell(m.state)
}
