// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// Console is what the test makes of it.
func (v vms) Console(stream vmletv1.VMService_ConsoleServer) error { return v.console(stream) }

// says sends what a VM prints.
func says(stream vmletv1.VMService_ConsoleServer, text string) error {
	return stream.Send(&vmletv1.ConsoleResponse{Event: &vmletv1.ConsoleResponse_Output{Output: []byte(text)}})
}

// shell is a console that says what is typed, in capitals; "end" ends the VM, "taken" has somebody else type, "fail" breaks the
// call.
func shell(asked *vmletv1.ConsoleRequest) func(vmletv1.VMService_ConsoleServer) error {
	return func(stream vmletv1.VMService_ConsoleServer) error {
		first, err := stream.Recv()
		if err != nil {
			return err
		}
		asked.Vm, asked.Write, asked.Force, asked.ReplayBytes = first.GetVm(), first.GetWrite(), first.GetForce(), first.GetReplayBytes()
		if err := stream.Send(&vmletv1.ConsoleResponse{Event: &vmletv1.ConsoleResponse_Opened{Opened: &vmletv1.ConsoleOpened{}}}); err != nil {
			return err
		}
		for line := ""; ; {
			msg, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				if err := says(stream, "all typed: "+line); err != nil {
					return err
				}
				if err := stream.Send(&vmletv1.ConsoleResponse{Event: &vmletv1.ConsoleResponse_Typed{Typed: &vmletv1.ConsoleTyped{}}}); err != nil {
					return err
				}
				<-stream.Context().Done()
				return nil
			}
			if err != nil {
				return err
			}
			line += string(msg.GetInput())
			switch {
			case strings.HasSuffix(line, "end"):
				return stream.Send(&vmletv1.ConsoleResponse{Event: &vmletv1.ConsoleResponse_Ended{
					Ended: &vmletv1.ConsoleEnded{Reason: "Killed", ExitCode: 137, Message: "it was destroyed"},
				}})
			case strings.HasSuffix(line, "taken"):
				err = stream.Send(&vmletv1.ConsoleResponse{Event: &vmletv1.ConsoleResponse_TakenOver{TakenOver: &vmletv1.ConsoleTakenOver{}}})
			case strings.HasSuffix(line, "fail"):
				return status.Error(codes.Unavailable, "vmlet is shutting down")
			default:
				err = says(stream, strings.ToUpper(string(msg.GetInput())))
			}
			if err != nil {
				return err
			}
		}
	}
}

// glass is what a user sees.
type glass struct {
	mu   sync.Mutex
	text bytes.Buffer
	news chan struct{}
}

func (g *glass) Write(b []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case g.news <- struct{}{}:
	default:
	}
	return g.text.Write(b)
}

func (g *glass) String() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.text.String()
}

func (g *glass) waitFor(t *testing.T, text string) {
	t.Helper()
	for timeout := time.After(20 * time.Second); !strings.Contains(g.String(), text); {
		select {
		case <-g.news:
		case <-timeout:
			t.Fatalf("no %q on the screen: %q", text, g.String())
		}
	}
}

// desk is a user at a terminal, in front of the program.
type desk struct {
	*glass

	t    *testing.T
	keys *os.File // the user's side of the terminal
	tty  *os.File // the program's
	was  unix.Termios
	code chan int
}

func (w *world) sit(ctx context.Context, t *testing.T, args ...string) *desk {
	t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo terminals here:", err)
	}
	t.Cleanup(func() { _ = keys.Close() }) //nolint:errcheck // nothing is lost
	if err := unix.IoctlSetPointerInt(int(keys.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(keys.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprint("/dev/pts/", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tty.Close() }) //nolint:errcheck // the same
	d := &desk{glass: &glass{news: make(chan struct{}, 1)}, t: t, keys: keys, tty: tty, code: make(chan int, 1)}
	d.was = d.termios()
	go func() { _, _ = io.Copy(d.glass, keys) }() //nolint:errcheck // it ends with the terminal
	a := &app{in: tty, out: tty, err: tty, env: func(string) string { return "" }, now: func() time.Time { return clock }}
	go func() { d.code <- a.run(ctx, append([]string{"--address", w.socket}, args...)) }()
	return d
}

func (d *desk) termios() unix.Termios {
	d.t.Helper()
	state, err := unix.IoctlGetTermios(int(d.tty.Fd()), unix.TCGETS)
	if err != nil {
		d.t.Fatal(err)
	}
	return *state
}

func (d *desk) types(text string) {
	d.t.Helper()
	if _, err := d.keys.WriteString(text); err != nil {
		d.t.Fatal(err)
	}
}

// ends wants the program to end so, with the terminal as it was.
func (d *desk) ends(code int) {
	d.t.Helper()
	select {
	case got := <-d.code:
		if got != code {
			d.t.Errorf("exit %d, want %d: %q", got, code, d.String())
		}
	case <-time.After(20 * time.Second):
		d.t.Fatalf("it does not end: %q", d.String())
	}
	if now := d.termios(); now != d.was {
		d.t.Errorf("the terminal is %+v, was %+v", now, d.was)
	}
}

func TestConsoleOnATerminal(t *testing.T) {
	for name, tc := range map[string]struct {
		args  []string
		types string // after it is connected
		code  int
		sees  []string
		lacks string
	}{
		"left by its key":        {types: "ls\x1d", sees: []string{"LS", "all typed: ls", leftovers, "[vmletctl: left default/web]"}},
		"keys that are not ours": {types: "\x03\x1a\x1c\x04x\x1d", sees: []string{"\x03\x1a\x1c\x04X"}},
		"nothing after the key":  {types: "a\x1db", lacks: "B", sees: []string{"all typed: a"}},
		"the end of the VM":      {types: "end", sees: []string{leftovers, "the VM of default/web has ended: Killed, exit code 137: it was destroyed"}},
		"taken over":             {types: "taken\x1d", sees: []string{"somebody else types from now on; you watch"}},
		"the end of vmlet":       {types: "fail", code: exitFailed, sees: []string{leftovers, "vmletctl: vmlet is shutting down"}},
		"watching":               {args: []string{"--read-only"}, types: "ls\x03", lacks: "LS", sees: []string{"left default/web"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.addPods("")
			var asked vmletv1.ConsoleRequest
			w.console = shell(&asked)
			d := w.sit(t.Context(), t, append([]string{"console", "web"}, tc.args...)...)
			d.waitFor(t, "[vmletctl: console of default/web; Ctrl-] leaves it]")
			if now := d.termios(); now.Lflag&(unix.ECHO|unix.ICANON|unix.ISIG) != 0 {
				t.Errorf("the terminal is not the guest's: %+v", now)
			}
			d.types(tc.types)
			for _, text := range tc.sees {
				d.waitFor(t, text)
			}
			d.ends(tc.code)
			if tc.lacks != "" && strings.Contains(d.String(), tc.lacks) {
				t.Errorf("%q is on the screen: %q", tc.lacks, d.String())
			}
			if asked.GetVm() != webID || asked.GetWrite() != (tc.args == nil) || asked.GetReplayBytes() != 4096 {
				t.Errorf("asked for %v", &asked)
			}
		})
	}
}

func TestConsoleGivesTheTerminalBackWhenItIsBrokenOff(t *testing.T) {
	w := newWorld(t)
	w.addPods("")
	var asked vmletv1.ConsoleRequest
	w.console = shell(&asked)
	ctx, cancel := context.WithCancel(t.Context())
	d := w.sit(ctx, t, "console", "--force", "web")
	d.waitFor(t, "leaves it")
	cancel() // as by SIGTERM
	d.waitFor(t, "vmletctl: interrupted")
	d.ends(exitFailed)
	if !asked.GetForce() {
		t.Error("it was not asked for by force")
	}

	w.console = func(vmletv1.VMService_ConsoleServer) error {
		return status.Error(codes.FailedPrecondition, "somebody else has been typing since yesterday")
	}
	d = w.sit(t.Context(), t, "console", "web")
	d.waitFor(t, "vmletctl: somebody else has been typing since yesterday")
	d.ends(exitFailed)
	if strings.Contains(d.String(), leftovers) {
		t.Errorf("the terminal was never the guest's: %q", d.String())
	}
}

func TestConsoleWithoutATerminal(t *testing.T) {
	w := newWorld(t)
	w.addPods("")
	var asked vmletv1.ConsoleRequest
	w.console = shell(&asked)
	w.stdin = "\x1dls\nend"
	got := w.ctl(t, "console", "web", "--recent", "0")
	got.wantOK(t)
	if got.stdout != "" || got.stderr != "the VM of default/web has ended: Killed, exit code 137: it was destroyed\n" {
		t.Errorf("got %+v", got)
	}
	if asked.GetReplayBytes() != 0 {
		t.Errorf("asked for %v", &asked)
	}
	w.stdin = "ls"
	ctx, cancel := context.WithCancel(t.Context())
	w.console = func(stream vmletv1.VMService_ConsoleServer) error {
		if err := says(stream, ""); err != nil {
			return err
		}
		for {
			if _, err := stream.Recv(); err != nil { // the end of the input is not that of the command
				time.AfterFunc(50*time.Millisecond, cancel)
				<-stream.Context().Done()
				return nil //nolint:nilerr // the client has gone
			}
		}
	}
	w.ctlWithin(ctx, "console", "web").wantError(t, exitFailed, "interrupted")
	w.ctl(t, "console", "--read-only", "--force", "web").wantError(t, exitUsage, "--force is to type")
	w.ctl(t, "console", "moon").wantError(t, exitFailed, `no pod "moon"`)
}
