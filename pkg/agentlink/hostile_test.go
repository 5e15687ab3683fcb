// SPDX-License-Identifier: Apache-2.0

package agentlink

import (
	"bytes"
	"context"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sync/errgroup"

	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// What a guest that means harm can send, and what it costs the host.

func TestGarbageBeforeTheWelcomeIsSkipped(t *testing.T) {
	ones := bytes.Repeat([]byte{1}, 1<<20)
	for name, garbage := range map[string][]byte{
		"zeros":                 make([]byte, 1000),
		"text":                  []byte("login: root\r\n\x00Password:"),
		"an endless frame":      ones,
		"the half of a frame":   {5, 1, 2},
		"a frame that is short": {0, 2, 4, 0},
		"no checksum":           {0, 6, 2, 1, 1, 1, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			host, guest := guestOf(t)
			var g errgroup.Group
			g.Go(func() error {
				h := guest.hello()
				guest.raw(garbage)
				other := welcomeTo(h)
				other.Nonce = make([]byte, nonceLen)
				guest.tell(kindWelcome, other) // of another session
				guest.tell(kind(77), other)
				guest.send(guest.data(make([]byte, nonceLen)), []byte("of another session"))
				guest.raw(garbage)
				guest.tell(kindWelcome, welcomeTo(h))
				return nil
			})
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			s, err := Connect(ctx, host)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(g.Wait(), s.Close()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestEndlessGarbageIsGivenUp(t *testing.T) {
	for name, garbage := range map[string][]byte{
		"zeros":            make([]byte, 1<<16),
		"an endless frame": bytes.Repeat([]byte{7}, 1<<16),
		"Readies":          readies(t, 1000),
	} {
		t.Run(name, func(t *testing.T) {
			host, guest := guestOf(t)
			guest.drained()
			go func() {
				for {
					if _, err := guest.port.Write(garbage); err != nil {
						return
					}
				}
			}()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if _, err := Connect(ctx, host); !errors.Is(err, errGarbage) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func readies(t *testing.T, n int) []byte {
	t.Helper()
	var b bytes.Buffer
	l := &link{out: newFrameWriter(&b)}
	for range n {
		if err := l.tell(kindReady, &agentv1.Ready{BootId: "boot"}); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func TestReadiesDoNotMakeTheHostChatter(t *testing.T) {
	host, guest := guestOf(t)
	guest.raw(readies(t, 10000))
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	hellos := make(chan int)
	go func() {
		n := 0
		for {
			if _, err := guest.link.in.next(); err != nil {
				hellos <- n
				return
			}
			n++
		}
	}()
	if _, err := Connect(ctx, host); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Connect: %v", err)
	}
	if n := <-hellos; n == 0 || n > 10 {
		t.Errorf("%d Hellos", n)
	}
}

func TestAGuestThatNeverAnswersIsWaitedForUntilTheEnd(t *testing.T) {
	host, guest := guestOf(t)
	guest.drained()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Connect(ctx, host); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestAWelcomeThatMakesNoSenseIsRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*agentv1.Welcome)
		is     func(error) bool
	}{
		"a version that was not offered": {func(w *agentv1.Welcome) { w.Version = 9 }, isProtocol},
		"no boot ID":                     {func(w *agentv1.Welcome) { w.BootId = "" }, isProtocol},
		"a boot ID of two lines":         {func(w *agentv1.Welcome) { w.BootId = "a\nb" }, isProtocol},
		"an endless boot ID":             {func(w *agentv1.Welcome) { w.BootId = strings.Repeat("b", 65) }, isProtocol},
		"a thousand features":            {func(w *agentv1.Welcome) { w.Features = make([]string, 1000) }, isProtocol},
		"no common version": {func(w *agentv1.Welcome) {
			w.Version, w.Error = 0, &agentv1.Error{Message: "too\nold" + strings.Repeat("!", 1000)}
		}, func(err error) bool {
			return errdefs.IsFailedPrecondition(err) && !strings.Contains(err.Error(), "\n") && len(err.Error()) < 300
		}},
	} {
		t.Run(name, func(t *testing.T) {
			host, guest := guestOf(t)
			go func() {
				w := welcomeTo(guest.hello())
				tc.change(w)
				guest.tell(kindWelcome, w)
			}()
			if _, err := Connect(t.Context(), host); !tc.is(err) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func isProtocol(err error) bool { return errors.Is(err, errProtocol) }

func isLost(err error) bool { return errors.Is(err, errLost) }

func TestWhatEndsASession(t *testing.T) {
	for name, tc := range map[string]struct {
		harm func(*scripted, *conn)
		is   func(error) bool
	}{
		"an agent that begins anew": {
			func(g *scripted, _ *conn) { g.tell(kindReady, &agentv1.Ready{BootId: "boot"}) },
			func(err error) bool { return errors.Is(err, errRestarted) },
		},
		"a frame twice": {func(g *scripted, c *conn) {
			g.send(c, muxBytes(2, flagSYN, 0, 1))
			c.sent--
			g.send(c, muxBytes(2, flagSYN, 0, 1))
		}, isLost},
		"a frame that is missing": {func(g *scripted, c *conn) {
			c.sent++
			g.send(c, muxBytes(2, flagSYN, 0, 1))
		}, isLost},
		"a stream of the guest's": {func(g *scripted, c *conn) { g.send(c, muxBytes(muxWindow, flagSYN, 2, 0)) }, isProtocol},
		"a stream of ours that is new": {func(g *scripted, c *conn) {
			g.send(c, muxBytes(muxData, flagSYN, 1, 0))
		}, isProtocol},
		"a version of yamux that is none": {func(g *scripted, c *conn) { g.send(c, bytes.Repeat([]byte{9}, muxHeaderLen)) }, anyError},
		"a kind of yamux that is none":    {func(g *scripted, c *conn) { g.send(c, muxBytes(9, 0, 0, 0)) }, anyError},
		"a farewell":                      {func(g *scripted, c *conn) { g.send(c, muxBytes(3, 0, 0, 0)) }, anyError},
		"garbage without end": {func(g *scripted, _ *conn) {
			go func() {
				for {
					if _, err := g.port.Write(make([]byte, 1<<16)); err != nil {
						return
					}
				}
			}()
		}, func(err error) bool { return errors.Is(err, errGarbage) }},
	} {
		t.Run(name, func(t *testing.T) {
			s, guest, c := begun(t)
			guest.drained()
			tc.harm(guest, c)
			if err := over(t, s); !tc.is(err) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func anyError(err error) bool { return err != nil }

func TestWhatASessionOutlives(t *testing.T) {
	for name, harm := range map[string]func(*scripted, *conn){
		"garbage between its frames":    func(g *scripted, _ *conn) { g.raw(bytes.Repeat([]byte{3, 0}, 10000)) },
		"another Welcome":               func(g *scripted, _ *conn) { g.tell(kindWelcome, &agentv1.Welcome{BootId: "other"}) },
		"a Hello":                       func(g *scripted, _ *conn) { g.tell(kindHello, &agentv1.Hello{}) },
		"frames of another session":     func(g *scripted, _ *conn) { g.send(g.data(make([]byte, nonceLen)), []byte("x")) },
		"data of a stream that is none": func(g *scripted, c *conn) { g.send(c, append(muxBytes(muxData, 0, 999, 3), "abc"...)) },
		"a window without an end":       func(g *scripted, c *conn) { g.send(c, muxBytes(muxWindow, 0, 1, 1<<31)) },
		"a flood of pings": func(g *scripted, c *conn) {
			for range 5000 {
				g.send(c, muxBytes(2, flagSYN, 0, 1))
			}
		},
		"resets of streams that are none": func(g *scripted, c *conn) {
			for i := range uint32(5000) {
				g.send(c, muxBytes(muxWindow, flagRST, 2*i+101, 0))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, guest, c := begun(t)
			st, err := s.Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			guest.drained()
			harm(guest, c)
			guest.send(c, append(muxBytes(muxData, 0, 1, 3), 2, 'h', 'i'))
			got := make([]byte, 3)
			if _, err := io.ReadFull(st, got); err != nil || got[1] != 'h' {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

func TestMessagesAreBoundedByWhatArrivesAndByTheirLimit(t *testing.T) {
	s, guest, c := begun(t)
	guest.drained()
	st, err := s.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// One that promises a mebibyte, and keeps silent.
	guest.send(c, append(muxBytes(muxData, 0, 1, 3), 0xff, 0xff, 0x3f))
	before := held()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	defer context.AfterFunc(ctx, func() { anyway(st.SetDeadline(past)) })()
	if err := st.Receive(&agentv1.Reply{}); err == nil {
		t.Error("received")
	}
	if grown := held() - before; grown > 256<<10 {
		t.Errorf("a promise took %d bytes", grown)
	}

	st2, err := s.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	st2.Limit(100)
	guest.send(c, append(muxBytes(muxData, 0, 3, 2), 101, 0))
	if err := st2.Receive(&agentv1.Reply{}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("over the limit: %v", err)
	}
	st3, err := s.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	guest.send(c, append(muxBytes(muxData, 0, 5, 3), 2, 0xff, 0xff))
	if err := st3.Receive(&agentv1.Reply{}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("no message: %v", err)
	}
	st4, err := s.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// FIN in mid-message: in a frame of its own, since it ends a stream before what comes with it.
	guest.send(c, append(muxBytes(muxData, 0, 7, 2), 5, 1))
	guest.send(c, muxBytes(muxWindow, 4, 7, 0))
	if err := st4.Receive(&agentv1.Reply{}); !errdefs.IsUnavailable(err) {
		t.Errorf("half a message: %v", err)
	}
}

// held is the memory in use.
func held() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestUnreadDataIsBounded(t *testing.T) {
	s, guest, c := begun(t)
	guest.drained()
	const streams = 20
	for range streams {
		if _, err := s.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	before := held()
	block := make([]byte, 16<<10)
	for i := range uint32(streams) {
		for range window / len(block) {
			guest.send(c, append(muxBytes(muxData, 0, 2*i+1, uint32(len(block))), block...))
		}
	}
	guest.send(c, append(muxBytes(muxData, 0, 1, 1), 'x')) // one byte more than the window
	if err := over(t, s); err == nil {
		t.Error("no reason")
	}
	if grown := held() - before; grown > 2*streams*window {
		t.Errorf("%d streams hold %d bytes", streams, grown)
	}
}

func TestCrumbsAreNotCollectedWithoutEnd(t *testing.T) {
	s, guest, c := begun(t)
	guest.drained()
	const streams = 4
	for range streams {
		if _, err := s.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	before := held()
	crumb := append(muxBytes(muxData, 0, 1, 1), 'x')
	crumbs := bytes.Repeat(crumb, 2000)
	go func() {
		for range 2 * maxPieces / 2000 {
			for i := range streams {
				for j := 0; j < len(crumbs); j += len(crumb) {
					crumbs[j+7] = byte(2*i + 1)
				}
				if _, err := c.Write(crumbs); err != nil {
					return
				}
			}
		}
	}()
	if err := over(t, s); !errors.Is(err, errProtocol) {
		t.Errorf("got %v", err)
	}
	if grown := held() - before; grown > 24<<20 {
		t.Errorf("%d bytes are held", grown)
	}
}

func TestAReaderThatKeepsUpTakesCrumbsForEver(t *testing.T) {
	s, guest, c := begun(t)
	guest.drained()
	st, err := s.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const batch = 1000
	crumbs := bytes.Repeat(append(muxBytes(muxData, 0, 1, 1), 'x'), batch)
	for range 2 * maxPieces / batch {
		guest.send(c, crumbs)
		if n, err := io.CopyN(io.Discard, st, batch); err != nil {
			t.Fatalf("after %d: %v, %v", n, err, s.Err())
		}
	}
}

func TestAGuestThatReadsNothingHoldsNoCallBeyondItsContext(t *testing.T) {
	s, _, _ := begun(t) // nobody reads the guest's side
	before := runtime.NumGoroutine()
	for range 3 * hostStreams {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Millisecond)
		st, err := s.Open(ctx)
		if err == nil {
			_, err = st.Write(make([]byte, 64<<10))
			if err == nil {
				err = st.Receive(&agentv1.Reply{})
			}
			anyway(st.Close())
		}
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v", err)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	for deadline := time.Now().Add(time.Minute); runtime.NumGoroutine() > before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, before %d", runtime.NumGoroutine(), before)
		}
	}
}

func TestASessionHasNoMoreCallsThanItMay(t *testing.T) {
	s, guest, _ := begun(t)
	guest.drained()
	var last *Stream
	for range hostStreams {
		st, err := s.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		last = st
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := s.Open(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("one more: %v", err)
	}
	if err := last.Close(); err != nil {
		t.Error(err)
	}
	st, err := s.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Error(err)
	}
}
