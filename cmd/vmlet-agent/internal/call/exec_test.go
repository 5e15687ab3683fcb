// SPDX-License-Identifier: Apache-2.0

package call_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

func stdin(b string) *agentv1.ToProcess {
	return &agentv1.ToProcess{What: &agentv1.ToProcess_Stdin{Stdin: []byte(b)}}
}

var closeStdin = &agentv1.ToProcess{What: &agentv1.ToProcess_CloseStdin{CloseStdin: true}}

// pidFile returns a file for a process to leave its PID in, and a function that waits until
// that process is gone.
func pidFile(t *testing.T) (path string, gone func()) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "pid")
	return path, func() {
		t.Helper()
		pid, err := os.ReadFile(path)
		must(t, err)
		stat := "/proc/" + strings.TrimSpace(string(pid)) + "/stat"
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			b, err := os.ReadFile(stat)
			if err != nil || strings.Contains(string(b), ") Z ") {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s lives: %s", stat, b)
			}
		}
	}
}

func TestExecRunsAProcessToItsEnd(t *testing.T) {
	s := newGuest(t).connect(t)
	st, _ := order(t, s, execRequest(&agentv1.ExecRequest{Process: sh("echo out; echo err >&2; exit 9")}))
	r := collect(t, st)
	if r.stdout != "out\n" || r.stderr != "err\n" || r.exit.GetCode() != 9 || r.exit.GetTimedOut() || r.exit.GetAtUnixNano() == 0 {
		t.Errorf("%+v", r)
	}
	if err := st.Receive(&agentv1.FromProcess{}); !errors.Is(err, io.EOF) {
		t.Errorf("after the exit: %v", err)
	}
}

func TestExecGivesInput(t *testing.T) {
	s := newGuest(t).connect(t)
	st, _ := order(t, s, execRequest(&agentv1.ExecRequest{Process: sh("cat; echo end"), Stdin: true}))
	text := strings.Repeat("a line of input\n", 2000)
	for range 10 {
		must(t, st.Send(stdin(text)))
	}
	must(t, st.Send(closeStdin))
	if r := collect(t, st); r.stdout != strings.Repeat(text, 10)+"end\n" || r.exit.GetCode() != 0 {
		t.Errorf("%d bytes, %v", len(r.stdout), r.exit)
	}
}

func TestExecOnATerminal(t *testing.T) {
	s := newGuest(t).connect(t)
	p := sh("stty size; read line; stty size; exit 3")
	p.Tty, p.Size = true, &agentv1.TerminalSize{Width: 80, Height: 24}
	st, _ := order(t, s, execRequest(&agentv1.ExecRequest{Process: p, Stdin: true}))
	must(t, st.Send(&agentv1.ToProcess{What: &agentv1.ToProcess_Resize{Resize: &agentv1.TerminalSize{Width: 100, Height: 40}}}))
	must(t, st.Send(stdin("x\n")))
	if r := collect(t, st); !strings.Contains(r.stdout, "40 100\r\n") || r.stderr != "" || r.exit.GetCode() != 3 {
		t.Errorf("%+v", r)
	}
}

func TestExecTellsAsAShellWhyItCannotStart(t *testing.T) {
	s := newGuest(t).connect(t)
	st, _ := order(t, s, execRequest(&agentv1.ExecRequest{Process: &agentv1.Process{Args: []string{"/no/such"}}}))
	if r := collect(t, st); r.exit.GetCode() != 127 || !strings.Contains(r.stderr, "/no/such") {
		t.Errorf("%+v", r)
	}
	_, reply := ask(t, s, execRequest(&agentv1.ExecRequest{}))
	expectClass(t, reply, agentv1.Error_INVALID_ARGUMENT)
	_, reply = ask(t, s, execRequest(&agentv1.ExecRequest{Process: &agentv1.Process{
		Args: []string{"true"}, Security: &agentv1.Security{User: "nobody-of-this-name"},
	}}))
	expectClass(t, reply, agentv1.Error_FAILED_PRECONDITION)
}

func TestATimeoutKillsTheSession(t *testing.T) {
	s := newGuest(t).connect(t)
	file, gone := pidFile(t)
	st, _ := order(t, s, execRequest(&agentv1.ExecRequest{
		Process: sh("echo begun; sleep 1000 & echo $! >" + file + "; wait"), TimeoutNano: int64(300 * time.Millisecond),
	}))
	r := collect(t, st)
	if r.stdout != "begun\n" || !r.exit.GetTimedOut() || r.exit.GetSignal() != 9 || r.exit.GetCode() != 137 {
		t.Errorf("%+v", r)
	}
	gone()
}

// As vmlet ends an exec in order, at once, and by its own death.
func TestTheCallersEndKillsTheSession(t *testing.T) {
	g := newGuest(t)
	for _, how := range []string{"closes its half", "closes the call", "is gone"} {
		t.Run(how, func(t *testing.T) {
			s := g.connect(t)
			file, gone := pidFile(t)
			st, _ := order(t, s, execRequest(&agentv1.ExecRequest{Process: sh("sleep 1000 & echo $! >" + file + "; echo begun; wait")}))
			must(t, st.Receive(&agentv1.FromProcess{}))
			switch how {
			case "closes its half":
				must(t, st.CloseWrite())
				if r := collect(t, st); r.exit.GetSignal() != 9 {
					t.Errorf("%v", r.exit)
				}
			case "closes the call":
				must(t, st.Close())
			case "is gone":
				must(t, s.Close())
			}
			gone()
			must(t, s.Close())
		})
	}
}

func TestAProcessThatIgnoresItsInputIsKilledToo(t *testing.T) {
	s := newGuest(t).connect(t)
	file, gone := pidFile(t)
	st, _ := order(t, s, execRequest(&agentv1.ExecRequest{Process: sh("echo $$ >" + file + "; echo begun; exec sleep 1000"), Stdin: true}))
	must(t, st.Receive(&agentv1.FromProcess{}))
	for range 5 { // more than its pipe takes
		must(t, st.Send(stdin(strings.Repeat("x", 32<<10))))
	}
	must(t, st.Close())
	gone()
}

func TestAStalledCallerStallsItsOwnProcessOnly(t *testing.T) {
	s := newGuest(t).connect(t)
	order(t, s, execRequest(&agentv1.ExecRequest{Process: sh("exec cat /dev/zero")}))
	var wg sync.WaitGroup
	for range 20 {
		st, _ := order(t, s, execRequest(&agentv1.ExecRequest{Process: sh("seq 1 10000")}))
		wg.Go(func() {
			if r := collect(t, st); strings.Count(r.stdout, "\n") != 10000 {
				t.Errorf("%d bytes", len(r.stdout))
			}
		})
	}
	wg.Wait()
}

func TestWhatRunsInTheBackgroundNeitherHoldsTheCallNorDies(t *testing.T) {
	s := newGuest(t).connect(t)
	file, _ := pidFile(t)
	begin := time.Now()
	st, _ := order(t, s, execRequest(&agentv1.ExecRequest{Process: sh("sleep 30 & echo $! >" + file + "; echo done")}))
	r := collect(t, st)
	if r.stdout != "done\n" || r.exit.GetCode() != 0 || time.Since(begin) > 20*time.Second {
		t.Errorf("%+v after %v", r, time.Since(begin))
	}
	pid, err := os.ReadFile(file)
	must(t, err)
	st, _ = order(t, s, execRequest(&agentv1.ExecRequest{Process: sh("kill " + string(pid))}))
	if r := collect(t, st); r.exit.GetCode() != 0 {
		t.Errorf("it was dead: %+v", r)
	}
}

func TestFiftyProcessesAtOnce(t *testing.T) {
	s := newGuest(t).connect(t)
	var wg sync.WaitGroup
	for range 50 {
		st, _ := order(t, s, execRequest(&agentv1.ExecRequest{Process: sh("read line; echo got $line"), Stdin: true}))
		wg.Go(func() {
			must(t, st.Send(stdin("it\n")))
			if r := collect(t, st); r.stdout != "got it\n" {
				t.Errorf("%+v", r)
			}
		})
	}
	wg.Wait()
}
