// SPDX-License-Identifier: Apache-2.0

package streaming

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/vmlet/vmlet/pkg/vm"
)

func TestExecBySPDY(t *testing.T) {
	s, _ := serve(t, Config{}, cases{exec: func(_ context.Context, cmd []string, tty bool, s vm.Streams) (int32, error) {
		if strings.Join(cmd, " ") != "a command" || tty || s.Resize != nil {
			t.Errorf("command %q, tty %v", cmd, tty)
		}
		in := readAll(t, s.Stdin) // to the client's half-close: output still flows after it
		write(t, s.Stdout, "out "+in)
		write(t, s.Stderr, "err "+in)
		return 42, nil
	}})
	want := Wanted{Stdin: true, Stdout: true, Stderr: true}
	c := dialSPDY(t, must(t, func() (string, error) { return s.Exec("c", []string{"a", "command"}, want) }), want, nil)
	write(t, c.stdin, "hello")
	shut(c.stdin)
	out, errOut, end := readAll(t, c.stdout), readAll(t, c.stderr), c.result()
	if out != "out hello" || errOut != "err hello" || end.code() != 42 {
		t.Errorf("got %q, %q, %+v", out, errOut, end)
	}
}

func TestExecByWebSocket(t *testing.T) {
	s, _ := serve(t, Config{}, cases{exec: func(_ context.Context, _ []string, tty bool, s vm.Streams) (int32, error) {
		size, in := <-s.Resize, make([]byte, 5)
		if _, err := io.ReadFull(s.Stdin, in); err != nil {
			t.Error(err)
		}
		if !tty || s.Stderr != nil {
			t.Errorf("tty %v, stderr %v", tty, s.Stderr)
		}
		write(t, s.Stdout, fmt.Sprintf("%s at %dx%d", in, size.Width, size.Height))
		return 1, nil
	}})
	want := Wanted{Stdin: true, Stdout: true, TTY: true}
	c := dialWebSocket(t, must(t, func() (string, error) { return s.Exec("c", []string{"sh"}, want) }))
	c.send(4, `{"Width":132,"Height":43}`)
	c.send(0, "typed")
	got := c.all()
	if got[1] != "typed at 132x43" || parseResult(t, []byte(got[3])).code() != 1 {
		t.Errorf("got %q", got)
	}
}

func TestStreamsThatWereNotAskedForAreAbsent(t *testing.T) {
	s, _ := serve(t, Config{}, cases{exec: func(_ context.Context, _ []string, _ bool, s vm.Streams) (int32, error) {
		if s.Stdin != nil || s.Stderr != nil || s.Resize != nil || s.Stdout == nil {
			t.Errorf("streams = %+v, want stdout alone", s)
		}
		return 0, nil
	}})
	address := func() string {
		return must(t, func() (string, error) { return s.Exec("c", []string{"x"}, Wanted{Stdout: true}) })
	}
	dialSPDY(t, address(), Wanted{Stdout: true}, nil).result()
	dialWebSocket(t, address()).all()
}

func TestTheClientReadsWhyACommandCouldNotRun(t *testing.T) {
	s, _ := serve(t, Config{}, cases{exec: func(context.Context, []string, bool, vm.Streams) (int32, error) {
		return 0, errors.New("exec in container c: no agent answers")
	}})
	address := must(t, func() (string, error) { return s.Exec("c", []string{"x"}, Wanted{Stdout: true}) })
	if got := dialSPDY(t, address, Wanted{Stdout: true}, nil).result(); got.code() != -1 || !strings.Contains(got.Message, "no agent answers") {
		t.Errorf("got %+v", got)
	}
}

// A client that goes away takes its command with it: kubectl's Ctrl-C, a node that lost its
// API server.
func TestAClientThatGoesEndsItsCommand(t *testing.T) {
	for name, dial := range map[string]func(t *testing.T, address string, want Wanted) (leave func()){
		"SPDY": func(t *testing.T, address string, want Wanted) func() {
			c := dialSPDY(t, address, want, nil)
			return func() { shut(c.conn) }
		},
		"WebSocket": func(t *testing.T, address string, want Wanted) func() {
			c := dialWebSocket(t, address)
			return func() { shut(c) }
		},
	} {
		for _, want := range []Wanted{{Stdout: true}, {Stdin: true, Stdout: true, TTY: true}} {
			t.Run(fmt.Sprint(name, want), func(t *testing.T) {
				running, killed := make(chan struct{}), make(chan struct{})
				s, _ := serve(t, Config{}, cases{exec: func(ctx context.Context, _ []string, _ bool, _ vm.Streams) (int32, error) {
					close(running)
					<-ctx.Done() // it reads no input and writes no output
					if !errors.Is(context.Cause(ctx), errGone) {
						t.Errorf("the context's cause is %v", context.Cause(ctx))
					}
					close(killed)
					return 0, ctx.Err()
				}})
				leave := dial(t, must(t, func() (string, error) { return s.Exec("c", []string{"sleep"}, want) }), want)
				closed(t, "the command's start", running)
				leave()
				closed(t, "the command's end", killed)
			})
		}
	}
}

func TestAttach(t *testing.T) {
	s, _ := serve(t, Config{}, cases{attach: func(_ context.Context, s vm.Streams) error {
		write(t, s.Stdout, "attached ")
		_, err := io.Copy(s.Stdout, s.Stdin)
		return err
	}})
	want := Wanted{Stdin: true, Stdout: true}
	c := dialSPDY(t, must(t, func() (string, error) { return s.Attach("c", want) }), want, nil)
	write(t, c.stdin, "hello")
	shut(c.stdin)
	if got, end := readAll(t, c.stdout), c.result(); got != "attached hello" || end.code() != 0 {
		t.Errorf("got %q, %+v", got, end)
	}
}

// Twenty clients are attached to one flood, and five of them do not read: the others get
// everything, and the daemon's memory does not grow with what the five miss. That they are
// let go when the container ends, though they never read, is in the server's own end.
func TestStalledClientsHoldUpNobody(t *testing.T) {
	const clients, stalled, flood = 20, 5, 8 << 20
	begin := make(chan struct{})
	s, stop := serve(t, Config{}, cases{attach: func(_ context.Context, s vm.Streams) error {
		<-begin
		line := []byte(strings.Repeat("x", 1023) + "\n")
		for range flood / len(line) {
			if _, err := s.Stdout.Write(line); err != nil {
				return err
			}
		}
		return nil
	}})
	all := make([]*spdyClient, clients)
	for i := range all {
		all[i] = dialSPDY(t, must(t, func() (string, error) { return s.Attach("c", Wanted{Stdout: true}) }), Wanted{Stdout: true}, nil)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	close(begin)
	var readers sync.WaitGroup
	for _, c := range all[stalled:] {
		readers.Go(func() {
			if n, err := io.Copy(io.Discard, c.stdout); err != nil || n != flood {
				t.Errorf("a client got %d bytes of %d, %v", n, flood, err)
			}
			if end := c.result(); end.code() != 0 {
				t.Errorf("a client ended with %+v", end)
			}
		})
	}
	readers.Wait()
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 16<<20 {
		t.Errorf("memory grew by %d bytes for %d stalled clients", grown, stalled)
	}
	stop()
}
