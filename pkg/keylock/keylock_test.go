// SPDX-License-Identifier: Apache-2.0

package keylock

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

func TestOneHolderPerKey(t *testing.T) {
	var locks Locks
	var wg sync.WaitGroup
	var inside atomic.Int32
	for range 50 {
		wg.Go(func() {
			unlock, err := locks.Lock(t.Context(), "a")
			if err != nil {
				t.Error(err)
				return
			}
			if !inside.CompareAndSwap(0, 1) {
				t.Error("two hold the same key")
			}
			runtime.Gosched() // let the others try
			inside.Store(0)
			unlock()
		})
	}
	wg.Wait()
	if len(locks.m) != 0 {
		t.Errorf("%d keys are left behind", len(locks.m))
	}
}

func TestKeysDoNotBlockEachOther(t *testing.T) {
	var locks Locks
	a, err := locks.Lock(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	defer a()
	b, err := locks.Lock(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	b()
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	var locks Locks
	unlock, err := locks.Lock(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := locks.Lock(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v, want context.Canceled", err)
	}
	unlock()
	if len(locks.m) != 0 {
		t.Errorf("%d keys are left behind", len(locks.m))
	}
}
