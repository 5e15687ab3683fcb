// SPDX-License-Identifier: Apache-2.0

package vmagent

import (
	"context"
	"sync"
)

// changes are the guests whose agent has come or gone since somebody looked. What is added is never lost, and nobody waits
// to add.
type changes struct {
	mu  sync.Mutex
	ids map[string]bool
	// wake has one slot.
	wake chan struct{}
}

func newChanges() *changes { return &changes{ids: map[string]bool{}, wake: make(chan struct{}, 1)} }

func (c *changes) add(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ids[id] = true
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// next takes one of them, waiting for one until ctx ends. One caller at a time.
func (c *changes) next(ctx context.Context) (id string, err error) {
	for {
		if id, ok := c.take(); ok {
			return id, nil
		}
		select {
		case <-c.wake:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

func (c *changes) take() (id string, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id = range c.ids {
		delete(c.ids, id)
		return id, true
	}
	return "", false
}
