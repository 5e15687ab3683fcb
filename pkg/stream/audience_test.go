// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/goleak"

	"github.com/vmlet/vmlet/pkg/agentlink/record"
	"github.com/vmlet/vmlet/pkg/vm"
)

// ear is an attached client that hears everything at once.
type ear struct {
	t    *testing.T
	done chan error

	mu          sync.Mutex
	out, errOut bytes.Buffer
	news        chan struct{}
}

// part is one of an ear's streams.
type part struct {
	e *ear
	b *bytes.Buffer
}

func (p part) Write(b []byte) (int, error) {
	p.e.mu.Lock()
	defer p.e.mu.Unlock()
	defer func() {
		select {
		case p.e.news <- struct{}{}:
		default:
		}
	}()
	return p.b.Write(b)
}

// attach is for container c.
func (r *room) attach(cs *Consoles) *ear {
	r.t.Helper()
	deliver, err := cs.Subscribe(r.t.Context(), "c")
	if err != nil {
		r.t.Fatal(err)
	}
	e := &ear{t: r.t, done: make(chan error, 1), news: make(chan struct{}, 1)}
	go func() { e.done <- deliver(r.t.Context(), part{e, &e.out}, part{e, &e.errOut}) }()
	return e
}

func (e *ear) heard() (out, errOut string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.out.String(), e.errOut.String()
}

// waitFor waits until the client has heard this and nothing else.
func (e *ear) waitFor(out, errOut string) {
	e.t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		gotOut, gotErr := e.heard()
		if gotOut == out && gotErr == errOut {
			return
		}
		select {
		case <-e.news:
		case <-timeout:
			e.t.Fatalf("heard %q and %q, want %q and %q", gotOut, gotErr, out, errOut)
		}
	}
}

func (e *ear) end() error {
	e.t.Helper()
	select {
	case err := <-e.done:
		return err
	case <-time.After(20 * time.Second):
		e.t.Fatal("the client is not told the end")
		return nil
	}
}

func (r *room) records(id string) vm.Console {
	c := r.console(id)
	c.Format = vm.ConsoleRecords
	return c
}

func TestAttachedClientsHearAConsoleFromNowOn(t *testing.T) {
	defer goleak.VerifyNone(t)
	r := newRoom(t)
	cs := NewConsoles(ConsoleOptions{})
	c := r.console("c")
	r.follow(cs, c)
	r.print(c, "before\r\n")
	first := r.attach(cs)
	r.print(c, "login: ") // heard at once, though the log waits for the line's end
	first.waitFor("login: ", "")
	second := r.attach(cs)
	r.print(c, "root\r\n\x1b[2J\xff")
	first.waitFor("login: root\r\n\x1b[2J\xff", "")
	r.finish(cs, c)
	second.waitFor("root\r\n\x1b[2J\xff", "")
	for _, e := range []*ear{first, second} {
		if err := e.end(); err != nil {
			t.Errorf("a client ended with %v", err)
		}
	}
	if _, err := cs.Subscribe(t.Context(), "c"); !errdefs.IsNotFound(err) {
		t.Errorf("attaching to what has ended: %v, want NotFound", err)
	}
	if err := cs.Close(); err != nil {
		t.Error(err)
	}
}

func TestAttachedClientsHearTheStreamsOfACommandApart(t *testing.T) {
	r := newRoom(t)
	cs := r.consoles(nil)
	c, console := r.records("c"), r.console("c2")
	console.ContainerID, console.Log = "c", "" // the machine's serial console, which nobody logs
	r.follow(cs, console)
	r.follow(cs, c)
	before := record.Append(nil, 0, []byte("before"))
	r.print(c, string(before[:3])) // a record is half there
	e := r.attach(cs)
	r.print(c, string(before[3:]))
	r.print(console, "not the command's")
	r.print(c, string(record.Append(record.Append(nil, 0, []byte("a\r")), record.Stderr, []byte("b"))))
	r.print(c, string(record.Append(nil, record.Partial, []byte("10%"))))
	e.waitFor("before\na\r\n10%", "b\n")
	r.print(c, string(record.Append(nil, record.Unterminated, []byte("$ "))))
	r.print(c, "\x05abc") // the guest was cut off
	r.finish(cs, c)
	e.waitFor("before\na\r\n10%$ ", "b\n\n[vmlet: 4 bytes of output were not readable here]\n") // a line was open on the terminal
	if err := e.end(); err != nil {
		t.Errorf("the client ended with %v", err)
	}
	if got := r.log(c.Log); got != "before\na\nb\n10%$ \n[vmlet: 4 bytes of output were not readable here]\n" {
		t.Errorf("the log says %q", got)
	}
	r.finish(cs, console)
}

func TestAClientHearsTheEndThoughTheLogCannotBeWritten(t *testing.T) {
	r := newRoom(t)
	cs := r.consoles(nil)
	c := r.console("c")
	r.follow(cs, c)
	e := r.attach(cs)
	cs.mu.Lock()
	cs.followed["c"].k.writeAt = func(*os.File, []byte, int64) (int, error) { return 0, errors.New("no room") }
	cs.mu.Unlock()
	r.print(c, "last words\n")
	if err := cs.Finish(t.Context(), c); !errdefs.IsUnavailable(err) {
		t.Errorf("Finish: %v, want Unavailable", err)
	}
	if err := e.end(); err != nil {
		t.Error(err)
	}
	e.waitFor("last words\n", "")
}

// Twenty clients, five of which never read: nobody waits for them, what they miss is bounded
// on disk and takes no memory, and one that reads again is told how much it missed.
func TestStalledClientsHoldUpNobody(t *testing.T) {
	defer goleak.VerifyNone(t)
	r := newRoom(t)
	cs := NewConsoles(ConsoleOptions{SpoolCap: 64 << 20})
	cs.limits.clientLag, cs.limits.stalledAfter = 1<<20, 50*time.Millisecond
	c := r.console("c")
	r.follow(cs, c)
	const clients, stalled, line = 20, 5, "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde\n"
	var ears []*ear
	for range clients - stalled {
		ears = append(ears, r.attach(cs))
	}
	gate := make(chan struct{})
	var readers sync.WaitGroup
	ends := make(chan error, stalled)
	late := &bytes.Buffer{}
	for i := range stalled {
		deliver, err := cs.Subscribe(t.Context(), "c")
		if err != nil {
			t.Fatal(err)
		}
		w := writer(func(b []byte) (int, error) {
			<-gate
			if i == 0 {
				return late.Write(b)
			}
			return 0, io.ErrClosedPipe
		})
		readers.Go(func() { ends <- deliver(t.Context(), w, nil) })
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	printed := 0
	for range 10 { // each waits for those who read, as a guest would not
		r.print(c, strings.Repeat(line, 512<<10/len(line)))
		printed += 512 << 10
		for _, e := range ears {
			e.waitForLen(printed)
		}
	}
	r.waitFor("the log", func() bool { return fileSize(t, c.Log) > int64(printed) })
	if got := diskUse(t, c.Spool); got > 2<<20 {
		t.Errorf("the spool takes %d bytes for clients that do not read", got)
	}
	for _, e := range ears {
		e.mu.Lock()
		e.out = bytes.Buffer{}
		e.mu.Unlock()
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 8<<20 {
		t.Errorf("memory grew by %d bytes", grown)
	}
	r.finish(cs, c)
	for range stalled { // what is stalled is given up after the end
		if err := <-ends; !errors.Is(err, errStalled) {
			t.Errorf("a stalled client ended with %v", err)
		}
	}
	close(gate)
	readers.Wait()
	if err := cs.Close(); err != nil {
		t.Error(err)
	}
}

func fileSize(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func (e *ear) waitForLen(n int) {
	e.t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		e.mu.Lock()
		got := e.out.Len()
		e.mu.Unlock()
		if got == n {
			return
		}
		select {
		case <-e.news:
		case <-timeout:
			e.t.Fatalf("heard %d bytes of %d", got, n)
		}
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

func TestAClientThatReadsAgainIsToldWhatItMissed(t *testing.T) {
	for _, format := range []vm.ConsoleFormat{vm.ConsoleRaw, vm.ConsoleRecords} {
		t.Run(string(format), func(t *testing.T) {
			r := newRoom(t)
			cs := r.consoles(func(cs *Consoles) { cs.limits.clientLag = 100 << 10 })
			c := r.console("c")
			c.Format = format
			r.follow(cs, c)
			deliver, err := cs.Subscribe(t.Context(), "c")
			if err != nil {
				t.Fatal(err)
			}
			var heard, remarks bytes.Buffer
			blocked, gate := make(chan struct{}), make(chan struct{})
			once := sync.OnceFunc(func() { close(blocked); <-gate })
			ended := make(chan error, 1)
			go func() {
				out := writer(func(b []byte) (int, error) { once(); return heard.Write(b) })
				ended <- deliver(t.Context(), out, &remarks)
			}()
			line := func(n int) string {
				if format == vm.ConsoleRecords {
					return string(record.Append(nil, 0, fmt.Appendf(nil, "line %07d", n)))
				}
				return fmt.Sprintf("line %07d\n", n)
			}
			const lines = 100000
			r.print(c, line(0))
			<-blocked
			var b strings.Builder
			for n := 1; n < lines; n++ {
				b.WriteString(line(n))
			}
			r.print(c, b.String())
			r.waitFor("the log", func() bool { return strings.HasSuffix(r.log(c.Log), fmt.Sprintf("line %07d\n", lines-1)) })
			close(gate)
			r.finish(cs, c)
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
			said := heard.String()
			remark := remarks.String()
			if format == vm.ConsoleRaw {
				at := strings.Index(said, "[vmlet")
				if at < 0 {
					t.Fatal("nothing is said of what was missed")
				}
				remark, said = said[at:at+strings.Index(said[at:], "\n")+1], said[:at]+said[at+strings.Index(said[at:], "\n")+1:]
			}
			var missed int
			if _, err := fmt.Sscanf(remark, "[vmlet: %d bytes were skipped here", &missed); err != nil {
				t.Fatalf("remark %q: %v", remark, err)
			}
			if got := strings.Count(said, "\n")*len(line(0)) + missed; got != lines*len(line(0)) {
				t.Errorf("%d bytes were heard or skipped of %d", got, lines*len(line(0)))
			}
			last := -1
			for l := range strings.Lines(said) {
				n := 0
				if _, err := fmt.Sscanf(l, "line %07d\n", &n); err != nil || n <= last {
					t.Fatalf("%q after line %d, %v", l, last, err)
				}
				last = n
			}
			if last != lines-1 {
				t.Errorf("the last line is %d", last)
			}
		})
	}
}

func TestWhatAClientHasYetToHearIsKept(t *testing.T) {
	r := newRoom(t)
	cs := r.consoles(func(cs *Consoles) { cs.limits.punchStep = 4096 })
	c := r.console("c")
	r.follow(cs, c)
	deliver, err := cs.Subscribe(t.Context(), "c")
	if err != nil {
		t.Fatal(err)
	}
	var heard bytes.Buffer
	gate := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		ended <- deliver(t.Context(), writer(func(b []byte) (int, error) { <-gate; return heard.Write(b) }), nil)
	}()
	var all strings.Builder
	for n := range 20 {
		r.print(c, strings.Repeat(fmt.Sprintf("line %010d\n", n), 1000))
		all.WriteString(strings.Repeat(fmt.Sprintf("line %010d\n", n), 1000))
		r.waitFor("the log", func() bool { return r.log(c.Log) == all.String() })
	}
	close(gate)
	r.finish(cs, c)
	if err := <-ended; err != nil || heard.String() != all.String() {
		t.Errorf("%v; %s", err, difference(heard.String(), all.String()))
	}
}

func TestAClientsEndIsItsOwn(t *testing.T) {
	r := newRoom(t)
	cs := r.consoles(nil)
	c := r.console("c")
	r.follow(cs, c)
	stays := r.attach(cs)
	gone := errors.New("gone")
	deliver, err := cs.Subscribe(t.Context(), "c")
	if err != nil {
		t.Fatal(err)
	}
	r.print(c, "one\n")
	if err := deliver(t.Context(), writer(func([]byte) (int, error) { return 0, gone }), nil); !errors.Is(err, gone) {
		t.Errorf("deliver: %v, want the writer's error", err)
	}
	deliver, err = cs.Subscribe(t.Context(), "c")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := deliver(ctx, io.Discard, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("deliver: %v, want the context's error", err)
	}
	r.print(c, "two\n")
	stays.waitFor("one\ntwo\n", "")
	if got := len(cs.lookup("c").audience.clients); got != 1 {
		t.Errorf("%d clients are left, want 1", got)
	}
	if err := cs.Close(); err != nil {
		t.Error(err)
	}
	if err := stays.end(); !errdefs.IsUnavailable(err) {
		t.Errorf("after the daemon's end: %v, want Unavailable", err)
	}
}

// What clients hear at random paces is what was printed, in order, but for what they were
// told they missed.
func TestClientsAtAnyPace(t *testing.T) {
	r := newRoom(t)
	cs := r.consoles(func(cs *Consoles) { cs.limits.clientLag, cs.limits.punchStep = 64<<10, 4096 })
	c := r.console("c")
	r.follow(cs, c)
	var clients sync.WaitGroup
	heard := make([]bytes.Buffer, 8)
	for i := range heard {
		random := rand.New(rand.NewPCG(uint64(i), 0))
		deliver, err := cs.Subscribe(t.Context(), "c")
		if err != nil {
			t.Fatal(err)
		}
		clients.Go(func() {
			w := writer(func(b []byte) (int, error) {
				time.Sleep(time.Duration(random.IntN(1<<i)) * 10 * time.Microsecond) // a pace of its own
				return heard[i].Write(b)
			})
			if err := deliver(t.Context(), w, nil); err != nil {
				t.Error(err)
			}
		})
	}
	var all strings.Builder
	for n := range 600 {
		begin := all.Len()
		for k := range 100 {
			fmt.Fprintf(&all, "line %d\n", 100*n+k)
		}
		r.print(c, all.String()[begin:])
	}
	r.finish(cs, c)
	clients.Wait()
	skips := regexp.MustCompile(`(?:\r\n)?\[vmlet: (\d+) bytes were skipped[^\n]*\r\n`)
	for i := range heard {
		rest := all.String()
		follow := func(said string) {
			t.Helper()
			if !strings.HasPrefix(rest, said) {
				t.Fatalf("client %d: %s", i, difference(said, rest[:min(len(rest), len(said))]))
			}
			rest = rest[len(said):]
		}
		said, at := heard[i].String(), 0
		for _, m := range skips.FindAllStringSubmatchIndex(said, -1) {
			follow(said[at:m[0]])
			missed, err := strconv.Atoi(said[m[2]:m[3]])
			if err != nil || missed == 0 {
				t.Fatalf("client %d: %q", i, said[m[0]:m[1]])
			}
			rest, at = rest[missed:], m[1]
		}
		follow(said[at:])
		if rest != "" {
			t.Errorf("client %d did not hear the last %d bytes", i, len(rest))
		}
	}
}
