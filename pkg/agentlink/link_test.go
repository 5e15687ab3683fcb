// SPDX-License-Identifier: Apache-2.0

package agentlink_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/goleak"

	"github.com/vmlet/vmlet/pkg/agentlink"
	"github.com/vmlet/vmlet/pkg/agentlink/agentlinktest"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs an agent on the port until the test ends.
func serve(tb testing.TB, port io.ReadWriteCloser, boot string, handle agentlink.Handler) {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- agentlink.Serve(ctx, port, agentlink.Info{BootID: boot, Version: "v1", Features: []string{"echo"}}, handle)
	}()
	tb.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			tb.Errorf("Serve: %v", err)
		}
	})
}

// connect begins a session that ends with the test.
func connect(tb testing.TB, port *agentlinktest.Port) *agentlink.Session {
	tb.Helper()
	conn, err := port.Dial()
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(tb.Context(), 10*time.Second)
	defer cancel()
	s, err := agentlink.Connect(ctx, conn)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

func open(ctx context.Context, tb testing.TB, s *agentlink.Session) *agentlink.Stream {
	tb.Helper()
	st, err := s.Open(ctx)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := st.Close(); err != nil {
			tb.Error(err)
		}
	})
	return st
}

// echo answers each ReadFileRequest with its path, then echoes bytes.
func echo(_ context.Context, s *agentlink.Stream) {
	for {
		req := &agentv1.Request{}
		if s.Receive(req) != nil {
			return
		}
		if req.GetReadFile() == nil {
			break
		}
		if s.Send(&agentv1.Reply{Result: &agentv1.Reply_File{File: &agentv1.FileContent{Data: []byte(req.GetReadFile().GetPath())}}}) != nil {
			return
		}
	}
	if _, err := io.Copy(s, s); err != nil {
		return
	}
}

func ask(tb testing.TB, s *agentlink.Stream, path string) {
	tb.Helper()
	if err := s.Send(&agentv1.Request{Call: &agentv1.Request_ReadFile{ReadFile: &agentv1.ReadFileRequest{Path: path}}}); err != nil {
		tb.Fatal(err)
	}
	var reply agentv1.Reply
	if err := s.Receive(&reply); err != nil {
		tb.Fatal(err)
	}
	if got := string(reply.GetFile().GetData()); got != path {
		tb.Fatalf("got %q, want %q", got, path)
	}
}

func TestACallIsAnswered(t *testing.T) {
	port := agentlinktest.NewPort()
	serve(t, port, "boot-1", echo)
	s := connect(t, port)
	if p := s.Peer(); p.BootID != "boot-1" || p.Version != "v1" || len(p.Features) != 1 || p.Protocol != 1 {
		t.Errorf("peer %+v", p)
	}
	st := open(t.Context(), t, s)
	ask(t, st, "/etc/hosts")
	ask(t, st, "")
}

func TestCallsOfOneSessionDoNotWaitForEachOther(t *testing.T) {
	port := agentlinktest.NewPort()
	serve(t, port, "boot", echo)
	s := connect(t, port)
	stalled := open(t.Context(), t, s)
	// Nobody reads the echo of this: its window fills up both ways.
	go io.Copy(stalled, zeros{}) //nolint:errcheck // the end of the test ends it
	for range 20 {
		ask(t, open(t.Context(), t, s), "next")
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestBytesArriveAsTheyWereSentAndHalvesAreClosedApart(t *testing.T) {
	port := agentlinktest.NewPort()
	serve(t, port, "boot", echo)
	st := open(t.Context(), t, connect(t, port))
	if err := st.Send(&agentv1.Request{}); err != nil {
		t.Fatal(err)
	}
	sent := make([]byte, 3<<20)
	rand.Read(sent)
	go func() {
		if _, err := st.Write(sent); err != nil {
			t.Error(err)
		}
		if err := st.CloseWrite(); err != nil {
			t.Error(err)
		}
	}()
	got, err := io.ReadAll(st)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d bytes came back, %v", len(got), err)
	}
}

func TestMessagesOfManySendersStayWhole(t *testing.T) {
	const senders, each = 8, 200
	port := agentlinktest.NewPort()
	serve(t, port, "boot", func(_ context.Context, s *agentlink.Stream) {
		var all sync.WaitGroup
		for i := range senders {
			all.Go(func() {
				for range each {
					if s.Send(&agentv1.FileChunk{Data: bytes.Repeat([]byte{byte('a' + i)}, 1000*i)}) != nil {
						return
					}
				}
			})
		}
		all.Wait()
	})
	st := open(t.Context(), t, connect(t, port))
	count := 0
	for {
		var m agentv1.FileChunk
		err := st.Receive(&m)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if n := len(m.GetData()); n%1000 != 0 || n > 0 && bytes.Count(m.GetData(), m.GetData()[:1]) != n {
			t.Fatalf("message %d of %d bytes is mixed", count, n)
		}
		count++
	}
	if count != senders*each {
		t.Errorf("%d messages", count)
	}
}

func TestTheEndOfACallsContextEndsItOnBothSides(t *testing.T) {
	port := agentlinktest.NewPort()
	over := make(chan struct{})
	serve(t, port, "boot", func(ctx context.Context, _ *agentlink.Stream) {
		<-ctx.Done() // it neither reads nor writes
		close(over)
	})
	s := connect(t, port)
	ctx, cancel := context.WithCancel(t.Context())
	st := open(ctx, t, s)
	time.AfterFunc(10*time.Millisecond, cancel)
	if err := st.Receive(&agentv1.Reply{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Receive: %v", err)
	}
	if _, err := st.Write(make([]byte, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("Write: %v", err)
	}
	if err := st.Close(); err != nil {
		t.Error(err)
	}
	select {
	case <-over:
	case <-time.After(20 * time.Second):
		t.Error("the call goes on in the guest")
	}
}

func TestTheEndOfASessionEndsItsCallsInTheGuest(t *testing.T) {
	port := agentlinktest.NewPort()
	began, over := make(chan struct{}), make(chan struct{})
	serve(t, port, "boot", func(ctx context.Context, _ *agentlink.Stream) {
		close(began)
		<-ctx.Done()
		close(over)
	})
	s := connect(t, port)
	open(t.Context(), t, s)
	<-began
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	<-over
	<-s.Done()
	if _, err := s.Open(t.Context()); !errdefs.IsUnavailable(err) {
		t.Errorf("Open on a closed session: %v", err)
	}
}

func TestAGuestThatWritesWhileNobodyIsThereStillEndsItsCalls(t *testing.T) {
	port := agentlinktest.NewPort()
	over := make(chan struct{}, 1)
	serve(t, port, "boot", func(ctx context.Context, s *agentlink.Stream) {
		for ctx.Err() == nil {
			if _, err := s.Write(make([]byte, 1<<20)); err != nil {
				break
			}
		}
		over <- struct{}{}
	})
	for range 3 {
		s := connect(t, port)
		st := open(t.Context(), t, s)
		if _, err := io.ReadFull(st, make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		<-over
	}
	// What it was writing comes out before the next session, and is no part of it.
	st := open(t.Context(), t, connect(t, port))
	if _, err := io.ReadFull(st, make([]byte, 1)); err != nil {
		t.Error(err)
	}
}
