// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"context"
	"testing"
)

func TestQueueNeverBlocksAndKeepsTheOrder(t *testing.T) {
	q := newQueue[int]()
	const n = 10000
	for i := range n {
		q.put(i)
	}
	for i := range n {
		if got, ok := q.take(t.Context()); !ok || got != i {
			t.Fatalf("took %d, %v; want %d", got, ok, i)
		}
	}
}

func TestQueueWakesWhoWaits(t *testing.T) {
	q := newQueue[int]()
	took := make(chan int)
	go func() {
		for range 100 {
			item, _ := q.take(t.Context())
			took <- item
		}
	}()
	for i := range 100 {
		q.put(i)
		if got := <-took; got != i {
			t.Fatalf("took %d, want %d", got, i)
		}
	}
}

func TestTakeEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, ok := newQueue[int]().take(ctx); ok {
		t.Error("took something from an empty queue")
	}
}
