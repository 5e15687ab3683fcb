// SPDX-License-Identifier: Apache-2.0

package agentlink_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/vmlet/vmlet/pkg/agentlink"
	"github.com/vmlet/vmlet/pkg/agentlink/agentlinktest"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs an agent on the port until the test ends.
func serve(tb testing.TB, port io.ReadWriteCloser, boot string, handle agentlink.Handler) (stop func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- agentlink.Serve(ctx, port, agentlink.Info{BootID: boot, Version: "v1", Features: []string{"echo"}}, handle)
	}()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			tb.Errorf("Serve: %v", err)
		}
	}
	tb.Cleanup(stop)
	return stop
}

// connect begins a session that ends with the test.
func connect(tb testing.TB, port *agentlinktest.Port) *agentlink.Session {
	tb.Helper()
	conn, err := port.Dial()
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
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

func open(tb testing.TB, ctx context.Context, s *agentlink.Session) *agentlink.Stream {
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
	st := open(t, t.Context(), s)
	ask(t, st, "/etc/hosts")
	ask(t, st, "")
}
