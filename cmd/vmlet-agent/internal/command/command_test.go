// SPDX-License-Identifier: Apache-2.0

package command_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/command"
	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/guesttest"
	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/mountns"
	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/process"
	"github.com/vmlet/vmlet/pkg/agentlink/record"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

func TestMain(m *testing.M) { guesttest.Run(m.Run) }

// guest is a runner, and the file that QEMU would keep of its output.
type guest struct {
	*command.Runner
	config command.Config
}

func newGuest(t *testing.T) *guest {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("the agent is root")
	}
	dir := t.TempDir()
	port := filepath.Join(dir, "port")
	if err := os.WriteFile(port, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	namespaces := mountns.NewSet()
	starter, err := process.NewStarter(namespaces)
	if err != nil {
		t.Fatal(err)
	}
	g := &guest{config: command.Config{
		Starter: starter, Namespaces: namespaces, OutputPort: func() string { return port }, Dir: filepath.Join(dir, "run"),
		Log: func(err error) { t.Error(err) },
	}}
	g.restart(t)
	return g
}

// restart makes a new agent of the guest.
func (g *guest) restart(t *testing.T) {
	t.Helper()
	var err error
	if g.Runner, err = command.New(g.config); err != nil {
		t.Fatal(err)
	}
}

func (g *guest) start(t *testing.T, id, script string, with ...func(*agentv1.StartMainRequest)) {
	t.Helper()
	req := &agentv1.StartMainRequest{Id: id, Process: &agentv1.Process{Args: []string{"sh", "-c", script}}}
	for _, w := range with {
		w(req)
	}
	if err := g.Start(req); err != nil {
		t.Fatal(err)
	}
}

func (g *guest) wait(t *testing.T, id string) *agentv1.MainExit {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	exit, err := g.Wait(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	return exit
}

// output returns what is with QEMU now, and has the flags.
func (g *guest) output(t *testing.T, stream record.Flags) string {
	t.Helper()
	buf, err := os.ReadFile(g.config.OutputPort())
	if err != nil {
		t.Fatal(err)
	}
	var d record.Decoder
	var out strings.Builder
	for {
		r, n, err := d.Next(buf)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return out.String()
		}
		if r.Flags&record.Stderr == stream {
			out.Write(r.Payload)
			if r.Flags.Newline() {
				out.WriteByte('\n')
			}
		}
		buf = buf[n:]
	}
}

func TestAllThatACommandWroteIsThereBeforeItsExit(t *testing.T) {
	g := newGuest(t)
	for range 10 {
		if err := os.Truncate(g.config.OutputPort(), 0); err != nil {
			t.Fatal(err)
		}
		g.start(t, "a", "seq 1 20000; echo error >&2; printf end; exit 3")
		exit := g.wait(t, "a")
		out := g.output(t, 0)
		if exit.GetExit().GetCode() != 3 || exit.GetId() != "a" || exit.GetExit().GetAtUnixNano() == 0 || exit.GetStartError() != "" {
			t.Errorf("%v", exit)
		}
		if !strings.HasPrefix(out, "1\n2\n") || !strings.HasSuffix(out, "20000\nend") || strings.Count(out, "\n") != 20000 {
			t.Errorf("%d bytes: ...%q", len(out), out[max(0, len(out)-50):])
		}
		if errs := g.output(t, record.Stderr); errs != "error\n" {
			t.Errorf("%q", errs)
		}
		g.restart(t) // which remembers no acknowledgement
		if err := g.Ack("a"); err != nil {
			t.Fatal(err)
		}
		g.restart(t)
	}
}

func TestNothingSurvivesTheCommand(t *testing.T) {
	g := newGuest(t)
	mark := filepath.Join(t.TempDir(), "mark")
	g.start(t, "a", "(trap '' HUP TERM; sleep 0.5; touch "+mark+") & echo started")
	begin := time.Now()
	g.wait(t, "a")
	if d := time.Since(begin); d > 400*time.Millisecond {
		t.Skipf("this host is too slow to tell: %v", d)
	}
	time.Sleep(time.Second) // nothing tells of what does not happen
	if _, err := os.Stat(mark); !errors.Is(err, os.ErrNotExist) {
		t.Error("a process in the background went on")
	}
}

func TestACommandIsStartedOnce(t *testing.T) {
	g := newGuest(t)
	const script = "echo once; read line; kill -KILL $$"
	g.start(t, "a", script, withStdin)
	g.start(t, "a", script, withStdin)
	other := &agentv1.StartMainRequest{Id: "b", Process: &agentv1.Process{Args: []string{"true"}}}
	if err := g.Start(other); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("another one beside it: %v", err)
	}
	if err := g.Ack("a"); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("acknowledged while it runs: %v", err)
	}
	a, err := g.Attach("a")
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Write(t.Context(), []byte("go on\n")); err != nil {
		t.Fatal(err)
	}
	if exit := g.wait(t, "a").GetExit(); exit.GetCode() != 137 || exit.GetSignal() != 9 || exit.GetOomKilled() {
		t.Errorf("%v", exit)
	}
	g.start(t, "a", "echo twice")
	if err := g.Start(other); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("another one before the acknowledgement: %v", err)
	}
	for range 2 {
		if err := g.Ack("a"); err != nil {
			t.Error(err)
		}
	}
	if err := g.Start(&agentv1.StartMainRequest{Id: "a", Process: other.GetProcess()}); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("once more: %v", err)
	}
	if err := g.Start(other); err != nil {
		t.Errorf("the next one: %v", err)
	}
	g.wait(t, "b")
	if out := g.output(t, 0); out != "once\n" {
		t.Errorf("%q", out)
	}
}

func TestWhatIsNotThereIsNotFound(t *testing.T) {
	g := newGuest(t)
	_, waitErr := g.Wait(t.Context(), "a")
	_, attachErr := g.Attach("a")
	g.start(t, "b", "true")
	g.wait(t, "b")
	for what, err := range map[string]error{
		"wait": waitErr, "attach": attachErr, "ack": g.Ack("a"), "ack of nothing": g.Ack(""),
		"signal": g.Signal("a", "TERM"), "signal to one that has ended": g.Signal("b", "TERM"),
	} {
		if !errdefs.IsNotFound(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := g.Start(&agentv1.StartMainRequest{Id: strings.Repeat("x", 1000)}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a long ID: %v", err)
	}
}

func TestACommandThatCannotBeStartedHasAnExit(t *testing.T) {
	g := newGuest(t)
	for id, tt := range map[string]struct {
		process *agentv1.Process
		code    int32
		words   string
	}{
		"missing":        {&agentv1.Process{Args: []string{"/no/such"}}, 127, "/no/such"},
		"not executable": {&agentv1.Process{Args: []string{"/etc/passwd"}}, 126, "permission denied"},
		"unknown user":   {&agentv1.Process{Args: []string{"true"}, Security: &agentv1.Security{User: "eve"}}, 126, "eve"},
	} {
		if err := g.Start(&agentv1.StartMainRequest{Id: id, Process: tt.process}); err != nil {
			t.Fatal(err)
		}
		g.restart(t)
		exit := g.wait(t, id)
		if exit.GetExit().GetCode() != tt.code || !strings.Contains(exit.GetStartError(), tt.words) {
			t.Errorf("%s: %v", id, exit)
		}
		if err := g.Ack(id); err != nil {
			t.Error(err)
		}
	}
	g.config.OutputPort = func() string { return "" }
	g.restart(t)
	err := g.Start(&agentv1.StartMainRequest{Id: "x", Process: &agentv1.Process{Args: []string{"true"}}})
	if !errdefs.IsFailedPrecondition(err) {
		t.Errorf("a machine without the port: %v", err)
	}
}

func TestTheEndOfTheTerminationLogComesWithTheExit(t *testing.T) {
	g := newGuest(t)
	log := filepath.Join(t.TempDir(), "log")
	long := "(seq 1 2000; printf last) >" + log
	for id, tt := range map[string]struct {
		script, suffix string
		size           int
	}{
		"a": {"printf because >" + log, "because", 7},
		"b": {long, "2000\nlast", 4096},
		"c": {"rm " + log, "", 0},
	} {
		if err := os.WriteFile(log, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		g.start(t, id, tt.script, func(r *agentv1.StartMainRequest) { r.TerminationLog = log })
		got := g.wait(t, id).GetTerminationLog()
		if len(got) != tt.size || !strings.HasSuffix(string(got), tt.suffix) {
			t.Errorf("%s: %d bytes, %q", id, len(got), got)
		}
		if err := g.Ack(id); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWaitingEndsWithItsCaller(t *testing.T) {
	g := newGuest(t)
	g.start(t, "a", "sleep 1000")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := g.Wait(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if err := g.Signal("a", "9"); err != nil {
		t.Fatal(err)
	}
	g.wait(t, "a")
}
