// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Process is one that was started, the leader of its session. For concurrent use.
type Process struct {
	// Stdin is nil without input, Stderr with a terminal. Who started it closes them.
	Stdin          *os.File
	Stdout, Stderr *Output

	proc    *os.Process
	tty     bool
	started time.Time

	mu     sync.Mutex // held while the PID is used, so that it is not another process's by then
	reaped bool

	exit Exit
	done chan struct{}
}

// Exit is how a process ended.
type Exit struct {
	// Code is the exit status, or 128 and the signal's number.
	Code   int32
	Signal int32
	At     time.Time
}

func newProcess(started *os.Process, std *stdio) *Process {
	p := &Process{
		Stdin: std.stdin, Stdout: &Output{file: std.stdout},
		proc: started, tty: std.tty, started: time.Now(), done: make(chan struct{}),
	}
	if std.stderr != nil {
		p.Stderr = &Output{file: std.stderr}
	}
	return p
}

// Outputs are those that the process has.
func (p *Process) Outputs() []*Output {
	if p.Stderr == nil {
		return []*Output{p.Stdout}
	}
	return []*Output{p.Stdout, p.Stderr}
}

// PID is the process's, and its session's.
func (p *Process) PID() int { return p.proc.Pid }

// Started is when it was.
func (p *Process) Started() time.Time { return p.started }

// Done is closed when the process has ended. Others of its session may go on.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exit returns how the process ended, once Done is closed.
func (p *Process) Exit() Exit {
	<-p.done
	return p.exit
}

// reap waits for the process's end.
func (p *Process) reap(then func()) {
	defer then()
	// The PID stays the process's until it is reaped, under the lock.
	for {
		err := unix.Waitid(unix.P_PID, p.proc.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	at := time.Now()
	p.mu.Lock()
	state, err := p.proc.Wait()
	p.reaped = true
	p.mu.Unlock()
	p.exit = exitOf(state, err, at)
	close(p.done)
}

func exitOf(state *os.ProcessState, err error, at time.Time) Exit {
	e := Exit{Code: 255, At: at} // somebody else reaped it: nobody knows
	if err != nil {
		return e
	}
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		e.Signal = int32(ws.Signal())
		e.Code = 128 + e.Signal
		return e
	}
	e.Code = int32(state.ExitCode())
	return e
}

// Signal sends a signal to the process. os.ErrProcessDone if it has ended.
func (p *Process) Signal(sig syscall.Signal) error {
	return p.proc.Signal(sig)
}

// Kill kills the process and all of its session; it returns when none is left that could
// start another. What has made a session of its own is not among them.
func (p *Process) Kill() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	// Of a process that was reaped the number is free, unless others of its session hold it.
	return killSession(p.proc.Pid, p.reaped)
}

// Resize sets the terminal's size. os.ErrInvalid without a terminal.
func (p *Process) Resize(width, height uint32) error {
	if !p.tty {
		return os.ErrInvalid
	}
	return resize(p.Stdout.file, width, height)
}
