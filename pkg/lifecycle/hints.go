// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"sync"
	"time"

	"github.com/vmlet/vmlet/pkg/vm"
)

// hint is what events told about a running VM that matters once it has ended.
type hint struct {
	// seen: a Stopped event came, so nothing was missed.
	seen          bool
	guestShutdown bool
	hostShutdown  bool
	panicked      bool
	reason        string    // of the Stopped event
	at            time.Time // of the first event that told of the end
}

// hints keeps what events told, by sandbox ID, until the exit is settled or the next
// boot begins.
type hints struct {
	mu sync.Mutex
	m  map[string]hint
}

// note adds an event to what is known.
func (h *hints) note(e vm.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.m == nil {
		h.m = map[string]hint{}
	}
	got := h.m[e.SandboxID]
	switch e.Kind {
	case vm.EventGuestShutdown:
		got.guestShutdown = true
	case vm.EventHostShutdown:
		got.hostShutdown = true
	case vm.EventPanicked:
		got.panicked = true
	case vm.EventStopped:
		got.seen, got.reason = true, e.Detail
	default:
		return
	}
	if got.at.IsZero() {
		got.at = e.At
	}
	h.m[e.SandboxID] = got
}

func (h *hints) get(sandboxID string) hint {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.m[sandboxID]
}

func (h *hints) forget(sandboxID string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.m, sandboxID)
}
