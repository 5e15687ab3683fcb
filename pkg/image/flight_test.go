// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// waiter is a call of flights.do whose outcome can be awaited.
type waiter struct {
	cancel context.CancelFunc
	img    vm.Image
	err    error
	done   chan struct{}
}

func waitFor(t *testing.T, fs *flights, key string, progress func(vm.PullProgress), w work) *waiter {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	a := &waiter{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(a.done)
		a.img, a.err = fs.do(ctx, key, progress, w)
	}()
	synctest.Wait()
	return a
}

func TestFlightsAreSharedByKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fs flights
		goOn, runs := make(chan struct{}), 0
		w := func(context.Context, func(vm.PullProgress)) (vm.Image, error) {
			runs++
			<-goOn
			return vm.Image{ID: "x"}, nil
		}
		a, b, c := waitFor(t, &fs, "1", nil, w), waitFor(t, &fs, "1", nil, w), waitFor(t, &fs, "2", nil, w)
		close(goOn)
		for _, w := range []*waiter{a, b, c} {
			<-w.done
			if w.err != nil || w.img.ID != "x" {
				t.Errorf("got %v, %v", w.img, w.err)
			}
		}
		if runs != 2 {
			t.Errorf("%d runs for two keys", runs)
		}
		again := waitFor(t, &fs, "1", nil, w)
		<-again.done
		if runs != 3 {
			t.Error("who comes later got an old result")
		}
	})
}

func TestAFlightEndsWithTheLastWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fs flights
		var ended error
		w := func(ctx context.Context, _ func(vm.PullProgress)) (vm.Image, error) {
			<-ctx.Done()
			ended = context.Cause(ctx)
			return vm.Image{}, ended
		}
		a, b := waitFor(t, &fs, "1", nil, w), waitFor(t, &fs, "1", nil, w)
		a.cancel()
		<-a.done
		synctest.Wait()
		if !errdefs.IsCanceled(a.err) || ended != nil {
			t.Errorf("the first got %v, the work %v", a.err, ended)
		}
		b.cancel()
		<-b.done
		synctest.Wait()
		if !errdefs.IsCanceled(ended) {
			t.Errorf("the work ended with %v", ended)
		}
		// Who comes now does not join work that is being given up.
		fresh := waitFor(t, &fs, "1", nil, func(context.Context, func(vm.PullProgress)) (vm.Image, error) { return vm.Image{ID: "y"}, nil })
		<-fresh.done
		if fresh.err != nil || fresh.img.ID != "y" {
			t.Errorf("got %v, %v", fresh.img, fresh.err)
		}
	})
}

func TestClosingEndsAllFlights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fs flights
		cleaned := false
		a := waitFor(t, &fs, "1", nil, func(ctx context.Context, _ func(vm.PullProgress)) (vm.Image, error) {
			<-ctx.Done()
			cleaned = true
			return vm.Image{}, context.Cause(ctx)
		})
		fs.close()
		if !cleaned {
			t.Error("closed before the work had cleaned up")
		}
		<-a.done
		late := waitFor(t, &fs, "1", nil, nil)
		<-late.done
		if !errors.Is(a.err, errClosed) || !errors.Is(late.err, errClosed) || !errdefs.IsUnavailable(late.err) {
			t.Errorf("got %v and %v", a.err, late.err)
		}
	})
}

func TestProgressReachesAllWhoWaitAndNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fs flights
		steps := make(chan int64)
		w := func(_ context.Context, tell func(vm.PullProgress)) (vm.Image, error) {
			for n := range steps {
				tell(vm.PullProgress{Phase: phaseDownloading, Done: n})
			}
			return vm.Image{}, nil
		}
		var heardA, heardB []int64
		a := waitFor(t, &fs, "1", func(p vm.PullProgress) { heardA = append(heardA, p.Done) }, w)
		steps <- 1
		synctest.Wait()
		b := waitFor(t, &fs, "1", func(p vm.PullProgress) { heardB = append(heardB, p.Done) }, w)
		steps <- 2
		synctest.Wait()
		a.cancel()
		<-a.done
		steps <- 3
		close(steps)
		<-b.done
		if len(heardA) != 2 || len(heardB) != 3 || heardB[0] != 1 {
			t.Errorf("who left heard %v, who stayed %v", heardA, heardB)
		}
	})
}
