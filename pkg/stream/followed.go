// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
)

// Trouble with a log is tried again after these pauses.
const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = 10 * time.Second
)

// followed is a console that is copied whenever there is a reason to.
type followed struct {
	*console

	audience audience
	unwatch  func() error
	// waiting: a goroutine is on its way to copy, and will see all that is there now.
	waiting atomic.Bool
	// timer copies when no event will: it retries, and shows a line that has not ended.
	timer *time.Timer
	// retry is the pause after the last failure, 0 for none; retryAt is when it ends.
	retry   time.Duration
	retryAt time.Time
	lastErr error
	// reported is the trouble that OnError was last told.
	reported string
}

// errClosed is what is said while the process ends.
var errClosed = fmt.Errorf("shutting down: %w", errdefs.ErrUnavailable)

func newBuffers() *buffers {
	b := &buffers{}
	b.entries = make([]byte, 0, len(b.raw)+MaxPayload+1024)
	return b
}

// register has a console watched and found by its container's ID.
func (cs *Consoles) register(f *followed) (err error) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.closed {
		return errClosed
	}
	if cs.watcher == nil {
		if cs.watcher, err = newWatcher(cs.kick); err != nil {
			return err
		}
	}
	if f.unwatch, err = cs.watcher.add(f.Spool, keyOf(f.Console)); err != nil {
		return err
	}
	cs.followed[keyOf(f.Console)] = f
	return nil
}

// forget undoes register. The lock of the container's ID is held.
func (cs *Consoles) forget(f *followed) error {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.followed[keyOf(f.Console)] != f {
		return nil
	}
	delete(cs.followed, keyOf(f.Console))
	if f.timer != nil {
		f.timer.Stop()
	}
	if cs.watcher == nil { // closed, and the watches with it
		return nil
	}
	return f.unwatch()
}

func (cs *Consoles) lookup(key string) *followed {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return cs.followed[key]
}

func (cs *Consoles) all() []*followed {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	var all []*followed
	for _, f := range cs.followed {
		all = append(all, f)
	}
	return all
}

// abandon closes a console's files as they are.
func (cs *Consoles) abandon(f *followed) error {
	//nolint:forbidigo // whoever holds it is about to end: life has
	unlock, err := cs.locks.Lock(context.Background(), keyOf(f.Console))
	if err != nil {
		return err
	}
	defer unlock()
	if cs.lookup(keyOf(f.Console)) != f {
		return nil
	}
	f.audience.end(errClosed)
	return errors.Join(cs.forget(f), f.close())
}

// kick has a console copied soon. It does not block.
func (cs *Consoles) kick(key string) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	f := cs.followed[key]
	if f == nil || cs.closed || !f.waiting.CompareAndSwap(false, true) {
		return
	}
	cs.work.Go(func() { cs.run(f) })
}

// run copies a console once, and sees to when it will be copied again.
func (cs *Consoles) run(f *followed) {
	unlock, err := cs.locks.Lock(cs.life, keyOf(f.Console))
	if err != nil {
		return // closed
	}
	defer unlock()
	f.waiting.Store(false) // what is printed from here on needs another run
	if cs.lookup(keyOf(f.Console)) != f {
		return
	}
	err = cs.withBuffers(cs.life, func(b *buffers) error {
		return errors.Join(f.publish(), f.turn(cs.life, b))
	})
	if cs.life.Err() != nil {
		return
	}
	cs.report(f, errors.Join(err, f.takeTrouble()))
	if pause := f.untilNextTurn(); pause > 0 {
		if f.timer == nil {
			f.timer = time.AfterFunc(pause, func() { cs.kick(keyOf(f.Console)) })
		} else {
			f.timer.Reset(pause)
		}
	}
}

// withBuffers lends buffers to do, once there are few enough others that have some.
func (cs *Consoles) withBuffers(ctx context.Context, do func(*buffers) error) error {
	select {
	case cs.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-cs.slots }()
	b, ok := cs.buffers.Get().(*buffers)
	if !ok {
		b = newBuffers()
	}
	defer cs.buffers.Put(b)
	return do(b)
}

// report tells OnError what is new about a console.
func (cs *Consoles) report(f *followed, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != f.reported {
		f.reported = text
		cs.options.OnError(f.ContainerID, err)
	}
}

// turn copies a console, unless it failed a short while ago.
func (f *followed) turn(ctx context.Context, b *buffers) error {
	if f.retry > 0 && f.now().Before(f.retryAt) {
		if err := f.enforceCap(); err != nil {
			return err
		}
		return f.lastErr
	}
	f.lastErr = f.copy(ctx, b, false)
	if f.lastErr == nil {
		f.retry = 0
		return nil
	}
	f.retry = min(max(2*f.retry, firstRetry), lastRetry)
	f.retryAt = f.now().Add(f.retry)
	return f.lastErr
}

// retryNow forgets that copying failed.
func (f *followed) retryNow() { f.retry, f.retryAt = 0, time.Time{} }

// untilNextTurn is when to copy again without an event, 0 for never.
func (f *followed) untilNextTurn() time.Duration {
	var at time.Time
	switch {
	case f.retry > 0:
		at = f.retryAt
	case !f.restSince.IsZero():
		at = f.restSince.Add(f.limits.partialAfter)
	default:
		return 0
	}
	return max(at.Sub(f.now()), time.Millisecond)
}
