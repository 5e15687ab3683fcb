// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"fmt"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

var errClosed = fmt.Errorf("the image store is closing: %w", errdefs.ErrUnavailable)

// flights are pieces of work that callers share. A piece outlives those who give up
// waiting for it, and ends with the last of them.
type flights struct {
	mu     sync.Mutex
	closed bool
	flying map[string]*flight
	all    sync.WaitGroup
}

type flight struct {
	audience audience
	cancel   context.CancelCauseFunc
	waiting  int

	done chan struct{} // closed when img and err are set
	img  vm.Image
	err  error
}

// work is what a flight does; it gets the values of the context of whoever came first.
type work func(ctx context.Context, tell func(vm.PullProgress)) (vm.Image, error)

// do waits for the work that is under way for key, or begins it.
func (fs *flights) do(ctx context.Context, key string, progress func(vm.PullProgress), w work) (vm.Image, error) {
	f, err := fs.board(ctx, key, w)
	if err != nil {
		return vm.Image{}, err
	}
	leave := f.audience.join(progress)
	defer leave()
	defer fs.alight(key, f)
	select {
	case <-f.done:
		return f.img, f.err
	case <-ctx.Done():
		return vm.Image{}, context.Cause(ctx)
	}
}

func (fs *flights) board(ctx context.Context, key string, w work) (*flight, error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.closed {
		return nil, errClosed
	}
	if f := fs.flying[key]; f != nil {
		f.waiting++
		return f, nil
	}
	f := &flight{waiting: 1, done: make(chan struct{})}
	ctx, f.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	if fs.flying == nil {
		fs.flying = map[string]*flight{}
	}
	fs.flying[key] = f
	fs.all.Go(func() {
		f.img, f.err = w(ctx, f.audience.tell)
		fs.forget(key, f)
		f.cancel(nil)
		close(f.done)
	})
	return f, nil
}

// alight takes one who waits off the flight. Without any the work is pointless; who comes
// later begins anew rather than to wait for work that is being given up.
func (fs *flights) alight(key string, f *flight) {
	fs.mu.Lock()
	f.waiting--
	abandoned := f.waiting == 0
	fs.mu.Unlock()
	if abandoned {
		fs.forget(key, f)
		f.cancel(context.Canceled)
	}
}

func (fs *flights) forget(key string, f *flight) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.flying[key] == f {
		delete(fs.flying, key)
	}
}

// close ends all work, lets none begin, and returns when what was under way has cleaned up.
func (fs *flights) close() {
	fs.mu.Lock()
	fs.closed = true
	for _, f := range fs.flying {
		f.cancel(errClosed)
	}
	fs.mu.Unlock()
	fs.all.Wait()
}
