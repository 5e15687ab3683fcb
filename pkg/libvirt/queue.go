// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"context"
	"sync"
)

// queue is a FIFO without a bound: putting never blocks, since libvirt's callbacks hold up
// its event loop. One goroutine takes.
type queue[T any] struct {
	mu    sync.Mutex
	items []T
	more  chan struct{}
}

func newQueue[T any]() *queue[T] { return &queue[T]{more: make(chan struct{}, 1)} }

func (q *queue[T]) put(item T) {
	q.mu.Lock()
	q.items = append(q.items, item)
	q.mu.Unlock()
	select {
	case q.more <- struct{}{}:
	default:
	}
}

// take waits for the next item; ok is false when ctx has ended.
func (q *queue[T]) take(ctx context.Context) (item T, ok bool) {
	for {
		q.mu.Lock()
		if len(q.items) > 0 {
			item, q.items = q.items[0], q.items[1:]
			q.mu.Unlock()
			return item, true
		}
		q.items = nil
		q.mu.Unlock()
		select {
		case <-q.more:
		case <-ctx.Done():
			return item, false
		}
	}
}
