// SPDX-License-Identifier: Apache-2.0

package libvirt

import "sync"

// removals tells those who wait for it that a guest has let go of a device.
type removals struct {
	mu sync.Mutex
	m  map[removal][]chan struct{}
}

type removal struct{ id, alias string }

// wait returns a channel with one slot, which gets something when the device is removed, and the function to call when
// nobody waits any more.
func (r *removals) wait(id, alias string) (<-chan struct{}, func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.m == nil {
		r.m = map[removal][]chan struct{}{}
	}
	key, ch := removal{id, alias}, make(chan struct{}, 1)
	r.m[key] = append(r.m[key], ch)
	return ch, func() { r.forget(key, ch) }
}

func (r *removals) forget(key removal, ch chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rest := r.m[key]
	for i, c := range rest {
		if c == ch {
			rest = append(rest[:i:i], rest[i+1:]...)
			break
		}
	}
	if len(rest) == 0 {
		delete(r.m, key)
		return
	}
	r.m[key] = rest
}

// tell never blocks: it is called from libvirt's event loop.
func (r *removals) tell(id, alias string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, ch := range r.m[removal{id, alias}] {
		select {
		case ch <- struct{}{}:
		default: // it has not come to the last one yet
		}
	}
}
