// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/goleak"

	"github.com/vmlet/vmlet/pkg/vm"
)

// watch is for the serial console of container c.
func (r *room) watch(cs *Consoles, replay int64) *ear {
	r.t.Helper()
	deliver, err := cs.SubscribeSerial(r.t.Context(), "c", replay)
	if err != nil {
		r.t.Fatal(err)
	}
	e := &ear{t: r.t, done: make(chan error, 1), news: make(chan struct{}, 1)}
	go func() { e.done <- deliver(r.t.Context(), part{e, &e.out}) }()
	return e
}

func TestTheSerialConsoleIsHeardBesideACommand(t *testing.T) {
	defer goleak.VerifyNone(t)
	r := newRoom(t)
	cs := NewConsoles(ConsoleOptions{})
	serial, output := r.console("c"), r.records("c")
	serial.Log = ""
	output.Spool, output.Checkpoint = output.Spool+".out", output.Checkpoint+".out"
	r.print(output, "")
	r.follow(cs, serial)
	r.follow(cs, output)
	watcher := r.watch(cs, 0)
	r.print(serial, "from the kernel\r\n")
	watcher.waitFor("from the kernel\r\n", "")
	if err := cs.Finish(t.Context(), serial); err != nil {
		t.Fatal(err)
	}
	if err := watcher.end(); err != nil {
		t.Errorf("the watcher ended with %v", err)
	}
	if _, err := cs.SubscribeSerial(t.Context(), "c", 0); !errdefs.IsNotFound(err) {
		t.Errorf("a command's output is taken for the console: %v", err)
	}
	if err := cs.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestReplayIsOfWholeLinesThatAreStillThere, for logged consoles and others, before and after a restart.
func TestReplayIsOfWholeLinesThatAreStillThere(t *testing.T) {
	line := strings.Repeat("x", 99) + "\n"
	for name, log := range map[string]bool{"logged": true, "not logged": false} {
		t.Run(name, func(t *testing.T) {
			r := newRoom(t)
			c := r.console("c")
			if !log {
				c.Log = ""
			}
			small := func(cs *Consoles) { cs.limits.punchStep = 16 << 10 }
			cs := r.consoles(small)
			r.follow(cs, c)
			r.print(c, "first\nsecond\nlogin: ")
			for replay, want := range map[int64]string{
				0: "", 7: "login: ", 8: "login: ", 13: "login: ", 14: "second\nlogin: ", 15: "second\nlogin: ",
				19: "second\nlogin: ", 20: "first\nsecond\nlogin: ", 1 << 20: "first\nsecond\nlogin: ",
			} {
				w := r.watch(cs, replay)
				w.waitFor(want, "")
			}
			w := r.watch(cs, 0)
			r.print(c, "\n"+strings.Repeat(line, 2000))
			w.waitFor("\n"+strings.Repeat(line, 2000), "")
			r.printUntilPunched(cs, c, line)
			for _, life := range []string{"this", "the next"} {
				all := r.watch(cs, 1<<20)
				r.print(c, "end")
				deadline := time.After(20 * time.Second)
				for got := ""; !strings.HasSuffix(got, "end"); got, _ = all.heard() {
					select {
					case <-all.news:
					case <-deadline:
						t.Fatalf("heard %d bytes", len(got))
					}
				}
				got, _ := all.heard()
				kept := strings.Count(got, line)
				if got = strings.ReplaceAll(got, line, ""); strings.Trim(got, "end") != "" || kept < 1 || kept > 1999 {
					t.Errorf("in %s life: %d lines and %q", life, kept, got)
				}
				if life == "this" {
					if err := cs.Close(); err != nil {
						t.Fatal(err)
					}
					cs = r.consoles(small)
					r.follow(cs, c)
				}
			}
		})
	}
}

// printUntilPunched prints until the clients have read what was said, and the disk was freed of some of it.
func (r *room) printUntilPunched(cs *Consoles, c vm.Console, line string) {
	r.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		r.print(c, line)
		unlock, err := cs.locks.Lock(r.t.Context(), keyOf(c))
		if err != nil {
			r.t.Fatal(err)
		}
		punched := cs.lookup(keyOf(c)).punched
		unlock()
		if punched > 64<<10 {
			return
		}
		time.Sleep(time.Millisecond) // there is no event of it
	}
	r.t.Fatal("nothing is punched out")
}

// TestAWatcherWhoAsksForMoreThanMayWaitIsNotSkipped at once.
func TestAWatcherWhoAsksForMoreThanMayWaitIsNotSkipped(t *testing.T) {
	r := newRoom(t)
	cs := r.consoles(func(cs *Consoles) { cs.limits.clientLag = 1000 })
	c := r.console("c")
	r.print(c, strings.Repeat("123456789\n", 200))
	r.follow(cs, c)
	w := r.watch(cs, 1<<20)
	w.waitFor(strings.Repeat("123456789\n", 50), "")
}

func TestInputThatIsClosedEndsAtOnceAndIsNotLost(t *testing.T) {
	defer goleak.VerifyNone(t)
	qemu, path := newTerminal(t)
	cs := NewConsoles(ConsoleOptions{})
	in, err := cs.OpenInput(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write([]byte("last words\n")); err != nil {
		t.Fatal(err)
	}
	in.Close()
	in.Close()
	if n, err := in.Write([]byte("more")); err == nil || n != 0 {
		t.Errorf("wrote %d bytes more, %v", n, err)
	}
	got := make([]byte, 100)
	n, err := qemu.Read(got)
	if err != nil || string(got[:n]) != "last words\n" {
		t.Errorf("typed %q, %v", got[:n], err)
	}
	if err := cs.Close(); err != nil { // which waits for no linger
		t.Fatal(err)
	}
	select {
	case <-in.Gone():
	default:
		t.Error("the terminal is still open")
	}
	if in, err = cs.OpenInput(path); err != nil {
		t.Fatal(err)
	}
	in.Close()
	<-in.Gone()
}

func TestInputThatAGuestDoesNotReadIsClosedAllTheSame(t *testing.T) {
	_, path := newTerminal(t)
	cs := sender(t, 0)
	in, err := cs.OpenInput(path)
	if err != nil {
		t.Fatal(err)
	}
	typed := make(chan error, 1)
	go func() {
		for {
			if _, err := in.Write(make([]byte, 4096)); err != nil {
				typed <- err
				return
			}
		}
	}()
	time.AfterFunc(50*time.Millisecond, in.Close) // it comes to nothing if it is sooner
	select {
	case err := <-typed:
		if err == nil {
			t.Error("all of it was typed")
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it is still typed")
	}
}

func TestInputEndsWithTheMachine(t *testing.T) {
	qemu, path := newTerminal(t)
	cs := sender(t, time.Second)
	in, err := cs.OpenInput(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := qemu.Close(); err != nil {
		t.Fatal(err)
	}
	<-in.Gone()
	if _, err := in.Write([]byte("x")); !errdefs.IsUnavailable(err) {
		t.Errorf("Write: %v, want Unavailable", err)
	}
	in.Close()
	if _, err := cs.OpenInput(path); !errdefs.IsUnavailable(err) {
		t.Errorf("OpenInput: %v, want Unavailable", err)
	}
	if _, err := cs.OpenInput("/dev/null"); err == nil || errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("OpenInput of what is no terminal: %v", err)
	}
}

var _ vm.ConsoleInput = (*input)(nil)
