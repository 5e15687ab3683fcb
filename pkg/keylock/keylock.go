// SPDX-License-Identifier: Apache-2.0

// Package keylock serialises work per key. Waiting for a key can be given up.
package keylock

import (
	"context"
	"fmt"
	"sync"
)

// Locks is a set of locks that exist while somebody holds or awaits them. The zero
// value is ready for use; it is safe for concurrent use.
type Locks struct {
	mu sync.Mutex
	m  map[string]*entry
}

type entry struct {
	held chan struct{} // buffered by one: holding the lock is having sent
	refs int
}

// Lock waits for the key and returns the function that gives it back, which must be
// called exactly once. It fails only when ctx ends first.
func (l *Locks) Lock(ctx context.Context, key string) (unlock func(), err error) {
	e := l.ref(key)
	select {
	case e.held <- struct{}{}:
		return func() { <-e.held; l.unref(key, e) }, nil
	case <-ctx.Done():
		l.unref(key, e)
		return nil, fmt.Errorf("wait for the lock of %s: %w", key, ctx.Err())
	}
}

func (l *Locks) ref(key string) *entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.m == nil {
		l.m = map[string]*entry{}
	}
	e := l.m[key]
	if e == nil {
		e = &entry{held: make(chan struct{}, 1)}
		l.m[key] = e
	}
	e.refs++
	return e
}

func (l *Locks) unref(key string, e *entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.refs--; e.refs == 0 {
		delete(l.m, key)
	}
}
