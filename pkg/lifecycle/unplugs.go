// SPDX-License-Identifier: Apache-2.0

package lifecycle

import "sync"

// unplugs lets goroutines wait for a guest to let go of something.
type unplugs struct {
	mu sync.Mutex
	m  map[string]map[chan struct{}]bool // by sandbox ID
}

// wait returns a channel that has something to read when there may be news of the sandbox's devices, and the function to
// call when the waiter no longer cares.
func (u *unplugs) wait(sandboxID string) (<-chan struct{}, func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.m == nil {
		u.m = map[string]map[chan struct{}]bool{}
	}
	if u.m[sandboxID] == nil {
		u.m[sandboxID] = map[chan struct{}]bool{}
	}
	ch := make(chan struct{}, 1)
	u.m[sandboxID][ch] = true
	return ch, func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		delete(u.m[sandboxID], ch)
		if len(u.m[sandboxID]) == 0 {
			delete(u.m, sandboxID)
		}
	}
}

// awaited tells whether somebody waits.
func (u *unplugs) awaited(sandboxID string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.m[sandboxID]) > 0
}

// tell wakes those who wait for a sandbox, or all of them for "".
func (u *unplugs) tell(sandboxID string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for id, waiters := range u.m {
		if sandboxID != "" && id != sandboxID {
			continue
		}
		for ch := range waiters {
			select {
			case ch <- struct{}{}:
			default: // it has not come to the last one yet
			}
		}
	}
}
