// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"sync"
	"time"

	"github.com/vmlet/vmlet/pkg/vm"
)

// stills measure by libvirt's events how long guests stand still while something is done to them.
type stills struct {
	mu sync.Mutex
	m  map[string]*still
}

// still is one measurement. Guarded by the mutex of all.
type still struct {
	all   *stills
	id    string
	since time.Time
	sum   time.Duration
}

// begin begins to measure a sandbox's guest; who began must end it.
func (s *stills) begin(sandboxID string) *still {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m == nil {
		s.m = map[string]*still{}
	}
	one := &still{all: s, id: sandboxID}
	s.m[sandboxID] = one
	return one
}

// hear takes an event into account.
func (s *stills) hear(ev vm.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := s.m[ev.SandboxID]
	if one == nil {
		return
	}
	switch ev.Kind { //nolint:exhaustive // the others say nothing of it
	case vm.EventSuspended:
		if one.since.IsZero() {
			one.since = ev.At
		}
	case vm.EventResumed:
		if !one.since.IsZero() {
			one.sum, one.since = one.sum+ev.At.Sub(one.since), time.Time{}
		}
	}
}

// end ends the measurement: a guest that stands still has done so until now.
func (one *still) end(now time.Time) time.Duration {
	one.all.mu.Lock()
	defer one.all.mu.Unlock()
	delete(one.all.m, one.id)
	if !one.since.IsZero() {
		return one.sum + now.Sub(one.since)
	}
	return one.sum
}
