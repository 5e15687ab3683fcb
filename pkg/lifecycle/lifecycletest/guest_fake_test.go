// SPDX-License-Identifier: Apache-2.0

package lifecycletest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/lifecycle/lifecycletest"
	"github.com/vmlet/vmlet/pkg/vm"
)

func TestFakeGuestKeepsTheContract(t *testing.T) {
	lifecycletest.RunGuest(t, func(t *testing.T) lifecycletest.GuestEnv {
		t.Helper()
		g := &hostGuest{Guest: lifecycletest.NewGuest(), t: t}
		off := make(chan struct{})
		g.SetExec(runHere)
		g.SetSilent("silent", true)
		g.SetAck(func(string) { close(off) })
		g.SetDial(func(ctx context.Context, port uint16) (net.Conn, error) {
			if port != 7 {
				return nil, fmt.Errorf("nothing listens: %w", errdefs.ErrUnavailable)
			}
			return net.Dial("tcp", echo(t))
		})
		t.Cleanup(g.end)
		dir := t.TempDir()
		g.AddFolder("answering", dir)
		g.AddUser("answering", "user")
		return lifecycletest.GuestEnv{
			Guest: g, Answering: "answering", Silent: "silent", Dir: dir, User: "user", Echo: 7, Closed: 9,
			Reboot: func() { g.end(); g.Boot("answering") }, Hangup: func() {}, PoweredOff: func() { <-off },
		}
	})
}

// hostGuest is the fake with commands that run on this host.
type hostGuest struct {
	*lifecycletest.Guest
	t *testing.T

	mu    sync.Mutex
	cmd   *exec.Cmd
	stdin io.WriteCloser
	ended chan struct{}
}

// StartMain implements lifecycle.Guest.
func (g *hostGuest) StartMain(ctx context.Context, id string, m vm.Main) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.Guest.StartMain(ctx, id, m); err != nil || g.cmd != nil {
		return err
	}
	g.cmd = exec.Command(m.Process.Args[0], m.Process.Args[1:]...)
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	g.ended = make(chan struct{})
	var err error
	if g.stdin, err = g.cmd.StdinPipe(); err != nil {
		return err
	}
	if err := g.cmd.Start(); err != nil {
		close(g.ended)
		g.EndMain(id, vm.MainExit{Code: 127, StartError: err.Error(), At: time.Now()})
		return nil
	}
	go func(cmd *exec.Cmd, ended chan struct{}) {
		defer close(ended)
		err := cmd.Wait()
		if g.Main(id) == nil {
			return // the guest has rebooted
		}
		exit := vm.MainExit{Code: int32(cmd.ProcessState.ExitCode()), At: time.Now()}
		if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
			g.t.Error(err)
		}
		if exit.TerminationLog, err = os.ReadFile(m.TerminationLog); err != nil && m.TerminationLog != "" {
			g.t.Log(err)
		}
		g.EndMain(id, exit)
	}(g.cmd, g.ended)
	return nil
}

// SignalMain implements lifecycle.Guest.
func (g *hostGuest) SignalMain(ctx context.Context, id, mainID, signal string) error {
	if err := g.Guest.SignalMain(ctx, id, mainID, signal); err != nil {
		return err
	}
	return g.cmd.Process.Signal(syscall.SIGUSR1)
}

// AttachMain implements lifecycle.Guest.
func (g *hostGuest) AttachMain(ctx context.Context, id, mainID string, stdin io.Reader, resize <-chan vm.TerminalSize) error {
	if err := g.Guest.AttachMain(ctx, id, mainID, io.TeeReader(stdin, g.stdin), resize); err != nil {
		return err
	}
	if err := g.stdin.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// end kills the command that runs.
func (g *hostGuest) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cmd == nil || g.cmd.Process == nil {
		return
	}
	select {
	case <-g.ended:
	default:
		g.PowerOff("answering")
		if err := syscall.Kill(-g.cmd.Process.Pid, syscall.SIGKILL); err != nil {
			g.t.Error(err)
		}
		<-g.ended
	}
	g.cmd = nil
}

// runHere takes this host for the guest.
func runHere(ctx context.Context, p vm.Process, s vm.Streams) (int32, error) {
	cmd := exec.CommandContext(ctx, p.Args[0], p.Args[1:]...)
	var failed error
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.Stdin, tell(s.Stdout, &failed, cmd), s.Stderr
	cmd.Dir, cmd.Env = p.WorkingDir, os.Environ()
	for _, v := range p.Env {
		cmd.Env = append(cmd.Env, v.Name+"="+v.Value)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	err := cmd.Run()
	exit, ok := errors.AsType[*exec.ExitError](err)
	switch {
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case failed != nil:
		return 0, failed
	case errors.Is(err, os.ErrNotExist):
		_, err := io.WriteString(s.Stderr, err.Error())
		return 127, err
	case err == nil:
		return 0, nil
	case !ok:
		return 0, err
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int32(status.Signal()), nil
	}
	return int32(exit.ExitCode()), nil
}

// teller kills a command whose output fails.
type teller struct {
	to     io.Writer
	failed *error
	cmd    *exec.Cmd
}

func tell(to io.Writer, failed *error, cmd *exec.Cmd) io.Writer {
	if to == nil {
		return nil
	}
	return teller{to, failed, cmd}
}

// Write implements io.Writer.
func (o teller) Write(p []byte) (int, error) {
	n, err := o.to.Write(p)
	if err != nil {
		*o.failed = err
		err = errors.Join(err, o.cmd.Cancel())
	}
	return n, err
}

// echo is the address of what sends back what comes.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		conn, err := l.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		if _, err := io.Copy(conn, conn); err != nil {
			t.Error(err)
		}
		if err := errors.Join(conn.Close(), l.Close()); err != nil {
			t.Error(err)
		}
	}()
	return l.Addr().String()
}
