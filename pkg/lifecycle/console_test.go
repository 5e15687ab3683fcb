// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// viewer is a client of a console.
type viewer struct {
	t     *testing.T
	input chan []byte
	ended chan struct{}
	leave context.CancelFunc
	exit  vm.Exit
	err   error

	mu            sync.Mutex
	opened, heard string
	taken, done   int
}

func (v *viewer) Write(b []byte) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.heard += string(b)
	return len(b), nil
}

// sees is what the client was told.
func (v *viewer) sees() (opened, heard string, taken int) {
	synctest.Wait()
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.opened, v.heard, v.taken
}

// types waits until it was taken, which a guest that reads nothing takes time for.
func (v *viewer) types(text string) {
	v.t.Helper()
	select {
	case v.input <- []byte(text):
	case <-time.After(time.Hour):
		v.t.Fatalf("%q is not taken", text)
	}
	synctest.Wait()
}

// end waits until the client was told the end, or why there is none.
func (v *viewer) end() {
	v.t.Helper()
	select {
	case <-v.ended:
	case <-time.After(time.Hour):
		v.t.Fatal("the client is still there")
	}
}

// views comes to a console.
func (w *world) views(ref string, req vm.ConsoleRequest) *viewer {
	ctx, leave := context.WithCancel(context.Background())
	v := &viewer{t: w.t, input: make(chan []byte), ended: make(chan struct{}), leave: leave}
	go func() {
		defer close(v.ended)
		v.exit, v.err = w.svc.Console(ctx, ref, req, vm.ConsoleClient{
			Opened: func(sandboxID string) error {
				v.mu.Lock()
				defer v.mu.Unlock()
				v.opened = sandboxID
				return nil
			},
			Output: v, Input: v.input,
			Typed: func() {
				v.mu.Lock()
				defer v.mu.Unlock()
				v.done++
			},
			TakenOver: func() {
				v.mu.Lock()
				defer v.mu.Unlock()
				v.taken++
			},
		})
	}()
	synctest.Wait()
	return v
}

func (w *world) typed(sb string) string {
	w.t.Helper()
	device, err := w.hypervisor.ConsoleDevice(w.t.Context(), sb)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.streams.typedInto(device)
}

func TestConsoleHasWatchersAndOneWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.running("a")
		since := time.Now().UTC().Format(time.RFC3339)
		writer := w.views("default/a", vm.ConsoleRequest{Write: true, Replay: 4096})
		if w.streams.replay != 4096 {
			t.Errorf("a replay of %d bytes", w.streams.replay)
		}
		time.Sleep(time.Minute)
		refused := w.views(c, vm.ConsoleRequest{Write: true})
		refused.end()
		mustBe(t, refused.err, errdefs.ErrFailedPrecondition)
		if !strings.Contains(refused.err.Error(), since) {
			t.Errorf("it does not say since when: %v", refused.err)
		}
		watcher := w.views(sb, vm.ConsoleRequest{})
		writer.types("ls\n")
		if got := w.typed(sb); got != "ls\n" {
			t.Errorf("typed %q", got)
		}
		w.streams.of(c) <- "said\n" // the fake tells one of them
		for _, v := range []*viewer{writer, watcher} {
			if opened, _, taken := v.sees(); opened != sb || taken != 0 {
				t.Errorf("opened %q, taken over %d times", opened, taken)
			}
		}
		writer.leave()
		writer.end()
		if !errors.Is(writer.err, context.Canceled) || w.streams.open() != 0 {
			t.Errorf("a writer who leaves: %v, %d consoles open", writer.err, w.streams.open())
		}
		next := w.views(c, vm.ConsoleRequest{Write: true})
		next.types("pwd\n")
		close(next.input) // who types no more watches on
		if next.sees(); next.done != 1 {
			t.Errorf("told %d times that all is typed", next.done)
		}
		if got := w.typed(sb); got != "ls\npwd\n" {
			t.Errorf("typed %q", got)
		}
		w.streams.of(c) <- "still here"
		if err := w.svc.StopContainer(t.Context(), c, 0); err != nil {
			t.Fatal(err)
		}
		close(w.streams.of(c))
		for _, v := range []*viewer{next, watcher} {
			v.end()
			if v.err != nil || v.exit.Reason != vm.ReasonKilled {
				t.Errorf("the end is told as %+v, %v", v.exit, v.err)
			}
		}
		all := 0
		for _, v := range []*viewer{writer, next, watcher} {
			_, heard, _ := v.sees()
			all += len(heard)
		}
		if all != len("said\nstill here") {
			t.Errorf("heard %d bytes", all)
		}
		late := w.views(c, vm.ConsoleRequest{})
		late.end()
		mustBe(t, late.err, errdefs.ErrFailedPrecondition)
	})
}

// TestTakingOverAConsole: nothing of the former writer goes in any more, and it is told and watches on; also where the guest
// reads nothing, and where one takes over after the other.
func TestTakingOverAConsole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.running("a")
		first := w.views(c, vm.ConsoleRequest{Write: true})
		first.types("one ")
		w.streams.mu.Lock()
		w.streams.stuck = true
		w.streams.mu.Unlock()
		first.types("never ")
		second := w.views(c, vm.ConsoleRequest{Write: true, Force: true})
		third := w.views(c, vm.ConsoleRequest{Write: true, Force: true})
		w.streams.mu.Lock()
		w.streams.stuck = false
		w.streams.mu.Unlock()
		for _, v := range []*viewer{first, second} {
			v.types("no more ")
			if _, _, taken := v.sees(); taken != 1 {
				t.Errorf("told %d times", taken)
			}
		}
		third.types("three")
		if got := w.typed(sb); got != "one three" {
			t.Errorf("typed %q", got)
		}
		if n := w.streams.open(); n != 1 {
			t.Errorf("%d consoles are open", n)
		}
		close(second.input)
		if second.sees(); second.done != 1 {
			t.Errorf("a former writer was told %d times that nothing of it is waited for", second.done)
		}
		first.leave() // it leaves no place behind
		first.end()
		refused := w.views(c, vm.ConsoleRequest{Write: true})
		refused.end()
		mustBe(t, refused.err, errdefs.ErrFailedPrecondition)
		w.streams.of(c) <- "heard"
		_, heard, _ := second.sees()
		_, more, _ := third.sees()
		if heard+more != "heard" {
			t.Errorf("heard %q and %q", heard, more)
		}
		close(w.streams.of(c))
		w.hypervisor.PowerOff(sb)
		for _, v := range []*viewer{second, third} {
			v.end()
			if v.err != nil || v.exit.Reason != vm.ReasonCompleted {
				t.Errorf("the end is told as %+v, %v", v.exit, v.err)
			}
		}
	})
}

// TestTakingOverAConsoleWaitsForWhatIsUnderWay: a former writer's bytes may still be on their way when the next one comes.
func TestTakingOverAConsoleWaitsForWhatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.running("a")
		first := w.views(c, vm.ConsoleRequest{Write: true})
		w.streams.delay(time.Second)
		first.input <- []byte("one ")
		second := w.views(c, vm.ConsoleRequest{Write: true, Force: true})
		w.streams.delay(0)
		go func() { second.input <- []byte("two") }()
		time.Sleep(time.Minute)
		if got := w.typed(sb); got != "one two" {
			t.Errorf("typed %q", got)
		}
		for _, v := range []*viewer{first, second} {
			v.leave()
			v.end()
		}
	})
}

// TestConsoleGoesOnInTheNextQEMU, and opens no terminal before libvirt has told of one: what it told before may be
// somebody else's by now.
func TestConsoleGoesOnInTheNextQEMU(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.running("a")
		v := w.views(c, vm.ConsoleRequest{Write: true})
		v.types("before ")
		asked := w.count("ConsoleDevice " + sb)
		w.streams.endQEMU()
		synctest.Wait()
		time.Sleep(time.Minute)
		if n := w.count("ConsoleDevice " + sb); n != asked {
			t.Errorf("libvirt was asked %d times for the terminal of a QEMU that is gone", n-asked)
		}
		w.guest.SetSilent(sb, true)
		if got := <-w.rebooting(c, vm.RebootRequest{Mode: vm.RebootACPI}); got.err != nil {
			t.Fatal(got.err)
		}
		synctest.Wait()
		v.types("after")
		if got := w.typed(sb); got != "before after" {
			t.Errorf("typed %q", got)
		}
		v.leave()
		v.end()
		if n := w.streams.open(); n != 0 {
			t.Errorf("%d consoles are open", n)
		}
	})
}

func TestConsoleFindsItsTerminalWhenLibvirtIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.running("a")
		w.hypervisor.Disconnect()
		v := w.views(c, vm.ConsoleRequest{Write: true})
		w.hypervisor.Reconnect()
		v.types("hello")
		if got := w.typed(sb); got != "hello" {
			t.Errorf("typed %q", got)
		}
		v.leave()
		v.end()
	})
}

func TestConsoleThatCannotBeHeardLeavesNoWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		_, c := w.running("a")
		gone := errors.New("the client is gone")
		_, err := w.svc.Console(t.Context(), c, vm.ConsoleRequest{Write: true}, vm.ConsoleClient{
			Opened: func(string) error { return gone }, Output: &viewer{},
		})
		if !errors.Is(err, gone) {
			t.Errorf("got %v", err)
		}
		w.streams.missing = true
		if _, err = w.svc.Console(t.Context(), c, vm.ConsoleRequest{Write: true}, vm.ConsoleClient{}); !errdefs.IsFailedPrecondition(err) {
			t.Errorf("a VM that has just ended: %v", err)
		}
		w.streams.missing = false
		v := w.views(c, vm.ConsoleRequest{Write: true})
		if opened, _, _ := v.sees(); opened == "" {
			t.Error("somebody who is gone still writes")
		}
		v.leave()
		v.end()
	})
}
