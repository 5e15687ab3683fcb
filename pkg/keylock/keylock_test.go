// SPDX-License-Identifier: Apache-2.0

package keylock

import (
	"context"
	"errors"
	"sync"
	"testing"
)

func TestOneHolderPerKey(t *testing.T) {
	var locks Locks
	var wg sync.WaitGroup
	n := 0 // guarded by the key alone: the race detector tells if it is not
	for range 50 {
		wg.Go(func() {
			unlock, err := locks.Lock(context.Background(), "a")
			if err != nil {
				t.Error(err)
				return
			}
			n++
			unlock()
		})
	}
	wg.Wait()
	if n != 50 {
		t.Errorf("n = %d, want 50", n)
	}
	if len(locks.m) != 0 {
		t.Errorf("%d keys are left behind", len(locks.m))
	}
}

func TestKeysDoNotBlockEachOther(t *testing.T) {
	var locks Locks
	a, err := locks.Lock(context.Background(), "a")
	if err != nil {
		t.Fatal(err)
	}
	defer a()
	b, err := locks.Lock(context.Background(), "b")
	if err != nil {
		t.Fatal(err)
	}
	b()
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	var locks Locks
	unlock, err := locks.Lock(context.Background(), "a")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := locks.Lock(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v, want context.Canceled", err)
	}
	unlock()
	if len(locks.m) != 0 {
		t.Errorf("%d keys are left behind", len(locks.m))
	}
}
