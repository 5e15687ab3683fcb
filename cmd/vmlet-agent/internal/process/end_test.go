// SPDX-License-Identifier: Apache-2.0

package process_test

import (
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/process"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

func TestKillFindsAllOfTheSession(t *testing.T) {
	s := newStarter(t)
	for _, end := range []string{"wait", "exit 0"} {
		// One in a process group of its own, one whose parent is gone.
		proc, err := s.Start(sh("set -m; sleep 1000 & (sleep 1001 & ); echo ready; "+end), false)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(proc.Stdout, make([]byte, 6)); err != nil {
			t.Fatal(err)
		}
		if end != "wait" {
			<-proc.Done()
		}
		if err := proc.Kill(); err != nil {
			t.Fatal(err)
		}
		// The pipe ends when the last one has gone that holds it.
		if err := proc.Stdout.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(proc.Stdout); err != nil {
			t.Errorf("%s: %v", end, err)
		}
		if e := proc.Exit(); end == "wait" && e.Signal != 9 {
			t.Errorf("%+v", e)
		}
		if err := proc.Signal(syscall.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("a signal to what is gone: %v", err)
		}
		if err := proc.Kill(); err != nil {
			t.Errorf("once more: %v", err)
		}
	}
}

func TestProcessesAreBounded(t *testing.T) {
	s := newStarter(t)
	var procs []*process.Process
	for range process.Max {
		p, err := s.Start(&agentv1.Process{Args: []string{"sleep", "1000"}}, false)
		if err != nil {
			t.Fatal(err)
		}
		procs = append(procs, p)
	}
	if _, err := s.Start(sh("true"), false); !errors.Is(err, process.ErrTooMany) {
		t.Errorf("one more: %v", err)
	}
	for _, p := range procs {
		if err := p.Kill(); err != nil {
			t.Error(err)
		}
		p.Exit()
	}
}

// A process in the background holds the pipe, and writes to it all the time.
func TestFinishedOutputEndsWithWhatWasThere(t *testing.T) {
	s := newStarter(t)
	for _, tty := range []bool{false, true} {
		p := sh(`trap "" HUP; (while sleep 0.01; do echo later; done) & seq 1 1000; echo done`)
		p.Tty = tty
		proc, err := s.Start(p, false)
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan string)
		go func() {
			// Slower than the process: what it wrote is still in the pipe when it ends.
			<-proc.Done()
			b, err := io.ReadAll(proc.Stdout)
			if err != nil {
				t.Error(err)
			}
			got <- string(b)
		}()
		<-proc.Done()
		proc.Stdout.Finish()
		if out := <-got; !strings.Contains(out, "1000") || !strings.Contains(out, "done") {
			t.Errorf("tty %v: %d bytes: %q", tty, len(out), out[max(0, len(out)-100):])
		}
		if err := proc.Kill(); err != nil {
			t.Error(err)
		}
	}
}

func TestADeadlineDoesNotEndOutput(t *testing.T) {
	s := newStarter(t)
	proc, err := s.Start(sh("read line; echo $line"), true)
	if err != nil {
		t.Fatal(err)
	}
	if err := proc.Stdout.SetReadDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := proc.Stdout.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if err := proc.Stdout.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := proc.Stdin.WriteString("line\n"); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(proc.Stdout); string(b) != "line\n" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
}
