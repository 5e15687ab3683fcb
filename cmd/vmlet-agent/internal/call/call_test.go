// SPDX-License-Identifier: Apache-2.0

package call_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/call"
	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/command"
	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/files"
	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/guesttest"
	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/machine"
	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/mountns"
	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/process"
	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/shares"
	"github.com/vmlet/vmlet/pkg/agentlink"
	"github.com/vmlet/vmlet/pkg/agentlink/agentlinktest"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

func TestMain(m *testing.M) { guesttest.Run(m.Run) }

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// guest is an agent that serves on a port.
type guest struct {
	port   *agentlinktest.Port
	output string
}

func newGuest(tb testing.TB) *guest {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("the agent is root")
	}
	dir := tb.TempDir()
	g := &guest{port: agentlinktest.NewPort(), output: filepath.Join(dir, "output")}
	must(tb, os.WriteFile(g.output, nil, 0o600))
	log := func(err error) { tb.Log(err) }
	namespaces := mountns.NewSet()
	starter, err := process.NewStarter(namespaces)
	must(tb, err)
	runner, err := command.New(command.Config{
		Starter: starter, Namespaces: namespaces, Dir: filepath.Join(dir, "command"), Log: log, OutputPort: func() string { return g.output },
	})
	must(tb, err)
	m := machine.New()
	freezer, err := machine.NewFreezer(m, filepath.Join(dir, "frozen"), log)
	must(tb, err)
	server := &call.Server{
		Starter: starter, Command: runner, Machine: m, Freezer: freezer, Log: log,
		Shares: shares.New(namespaces, filepath.Join(dir, "share")), Files: files.New(namespaces, filepath.Join(dir, "files")),
	}
	ctx, cancel := context.WithCancel(tb.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- agentlink.Serve(ctx, g.port, agentlink.Info{BootID: "boot", Version: "test"}, server.Serve)
	}()
	tb.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			tb.Error(err)
		}
	})
	return g
}

// connect begins a session; it ends with the test, or by its end.
func (g *guest) connect(tb testing.TB) *agentlink.Session {
	tb.Helper()
	conn, err := g.port.Dial()
	must(tb, err)
	ctx, cancel := context.WithTimeout(tb.Context(), 10*time.Second)
	defer cancel()
	s, err := agentlink.Connect(ctx, conn)
	must(tb, err)
	tb.Cleanup(func() { must(tb, s.Close()) })
	return s
}

// ask opens a call and receives its Reply.
func ask(tb testing.TB, s *agentlink.Session, req *agentv1.Request) (*agentlink.Stream, *agentv1.Reply) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 30*time.Second)
	tb.Cleanup(cancel)
	st, err := s.Open(ctx)
	must(tb, err)
	tb.Cleanup(func() { must(tb, st.Close()) })
	must(tb, st.Send(req))
	var reply agentv1.Reply
	must(tb, st.Receive(&reply))
	return st, &reply
}

// order is ask for what must not be refused.
func order(tb testing.TB, s *agentlink.Session, req *agentv1.Request) (*agentlink.Stream, *agentv1.Reply) {
	tb.Helper()
	st, reply := ask(tb, s, req)
	if reply.GetError() != nil {
		tb.Fatal(reply.GetError())
	}
	return st, reply
}

func expectClass(t *testing.T, reply *agentv1.Reply, want agentv1.Error_Class) {
	t.Helper()
	if got := reply.GetError(); got == nil || got.GetClass() != want || got.GetMessage() == "" {
		t.Errorf("got %v, want %v", got, want)
	}
}

func execRequest(r *agentv1.ExecRequest) *agentv1.Request {
	return &agentv1.Request{Call: &agentv1.Request_Exec{Exec: r}}
}

func sh(script string) *agentv1.Process { return &agentv1.Process{Args: []string{"sh", "-c", script}} }

// result is what came of a process.
type result struct {
	stdout, stderr string
	exit           *agentv1.Exit
}

// collect receives all that a process writes, and its exit.
func collect(tb testing.TB, st *agentlink.Stream) (r result) {
	tb.Helper()
	for {
		var m agentv1.FromProcess
		must(tb, st.Receive(&m))
		r.stdout += string(m.GetStdout())
		r.stderr += string(m.GetStderr())
		if len(m.GetStdout()) > agentlink.MaxPiece {
			tb.Errorf("a piece of %d bytes", len(m.GetStdout()))
		}
		if r.exit = m.GetExit(); r.exit != nil {
			return r
		}
	}
}

func BenchmarkExecTrue(b *testing.B) {
	s := newGuest(b).connect(b)
	for b.Loop() {
		st, _ := order(b, s, execRequest(&agentv1.ExecRequest{Process: &agentv1.Process{Args: []string{"true"}}}))
		collect(b, st)
		must(b, st.Close())
	}
}

// One call's answer, without a process.
func BenchmarkRoundTrip(b *testing.B) {
	s := newGuest(b).connect(b)
	for b.Loop() {
		st, _ := ask(b, s, &agentv1.Request{Call: &agentv1.Request_AckMain{AckMain: &agentv1.AckMainRequest{Id: "none"}}})
		must(b, st.Close())
	}
}

func benchmarkOutput(b *testing.B, script string) {
	s := newGuest(b).connect(b)
	st, _ := order(b, s, execRequest(&agentv1.ExecRequest{Process: sh(script)}))
	const total = 1 << 20
	b.SetBytes(total)
	for b.Loop() {
		for n := 0; n < total; {
			var m agentv1.FromProcess
			must(b, st.Receive(&m))
			n += len(m.GetStdout())
		}
	}
}

func BenchmarkExecOutputText(b *testing.B) {
	benchmarkOutput(b, "yes 'a line of text, as a program may log it'")
}

func BenchmarkExecOutputZeros(b *testing.B) { benchmarkOutput(b, "exec cat /dev/zero") }
