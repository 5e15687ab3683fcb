// SPDX-License-Identifier: Apache-2.0

package store

import "sync"

// keyed serialises writers of one record. They hold it for one sync, not longer, so
// waiting for it needs no way out. The zero value is ready for use.
type keyed struct {
	mu   sync.Mutex
	held map[string]chan struct{} // closed when given back
}

// lock waits for the key and returns the function that gives it back.
func (k *keyed) lock(key string) (unlock func()) {
	for {
		k.mu.Lock()
		held := k.held[key]
		if held == nil {
			break
		}
		k.mu.Unlock()
		<-held
	}
	defer k.mu.Unlock()
	if k.held == nil {
		k.held = map[string]chan struct{}{}
	}
	mine := make(chan struct{})
	k.held[key] = mine
	return func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.held, key)
		close(mine)
	}
}
