// SPDX-License-Identifier: Apache-2.0

// Package process starts processes in the guest and ends them: as the user, with the rights
// and in the mount namespace that a container's security context asks for.
//
//	agent, a thread of its own          new process
//	  enter the mount namespace
//	  find user, folder, program
//	  bound capabilities, no_new_privs
//	  clone ---------------------------> setsid, groups, user, ambient capabilities, execve
//
// With a seccomp filter the process is the agent's program again, Stage2, which does what
// comes after the namespace: a filter holds from the moment that it is set, and must not be
// set on a thread of the agent.
package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/mountns"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// Max is how many processes there may be at a time.
const Max = 256

// ErrTooMany is that there are Max processes.
var ErrTooMany = errors.New("too many processes")

// Exit codes of a program that could not be started, as a shell has them.
const (
	codeNotExecutable = 126
	codeNotFound      = 127
)

// Error is why a program was not started, when it was not for the request's sake: it
// is not there, or may not be run.
type Error struct {
	// Code is what a shell would exit with, 126 or 127.
	Code int32
	Err  error
}

func (e *Error) Error() string { return e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

// notStarted gives an error of looking for or executing a program its exit code.
func notStarted(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return &Error{codeNotFound, err}
	}
	return &Error{codeNotExecutable, err}
}

// Starter starts processes. For concurrent use.
type Starter struct {
	namespaces *mountns.Set
	// self is the agent's own program, also where the namespace has no file of it.
	self *os.File
	// oomScoreAdj is the agent's.
	oomScoreAdj string
	forking     sync.Mutex
	room        chan struct{}
}

// NewStarter returns a Starter for the guest's namespaces.
func NewStarter(namespaces *mountns.Set) (*Starter, error) {
	self, err := ownProgram()
	if err != nil {
		return nil, fmt.Errorf("find the agent's own program: %w", err)
	}
	adj, err := os.ReadFile(oomScoreAdj)
	if err != nil {
		return nil, err
	}
	return &Starter{
		namespaces:  namespaces,
		self:        self,
		oomScoreAdj: string(adj),
		room:        make(chan struct{}, Max),
	}, nil
}

// ownProgram opens the agent's program, by a number that no file has that a new process
// inherits.
func ownProgram() (*os.File, error) {
	low, err := unix.Open("/proc/self/exe", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	fd, err := unix.FcntlInt(uintptr(low), unix.F_DUPFD_CLOEXEC, stage2Files)
	if err := errors.Join(err, unix.Close(low)); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "vmlet-agent"), nil
}

// Start starts a process in a session of its own. input gives it a standard input, else it
// has none, or a terminal that nobody types on. The error is *Error where a shell would say
// 126 or 127, ErrTooMany, or of the class of what was
// wrong (fs.ErrInvalid, errdefs.ErrFailedPrecondition).
func (s *Starter) Start(p *agentv1.Process, input bool) (*Process, error) {
	plan, err := newPlan(p)
	if err != nil {
		return nil, err
	}
	select {
	case s.room <- struct{}{}:
	default:
		return nil, fmt.Errorf("%d run: %w", Max, ErrTooMany)
	}
	proc, err := s.start(plan, input)
	if err != nil {
		<-s.room
		return nil, err
	}
	go proc.reap(func() { <-s.room })
	return proc, nil
}

func (s *Starter) start(plan *plan, input bool) (_ *Process, err error) {
	connect := pipes
	if plan.proto.GetTty() {
		connect = terminal
	}
	std, err := connect(input)
	if err != nil {
		return nil, err
	}
	defer func() {
		std.closeChild()
		if err != nil {
			std.close()
		}
	}()
	if size := plan.proto.GetSize(); std.tty && size != nil {
		if err := resize(std.stdout, size.GetWidth(), size.GetHeight()); err != nil {
			return nil, fmt.Errorf("size the terminal: %w", err)
		}
	}
	var started *os.Process
	err = s.namespaces.DoRestricted(plan.proto.GetNamespace(), plan.restrictions(), func() error {
		if err := plan.resolve(); err != nil {
			return err
		}
		if err := std.chown(plan.id); err != nil {
			return err
		}
		started, err = s.launch(plan, std)
		return err
	})
	if err != nil {
		return nil, err
	}
	return newProcess(started, std), nil
}

// launch starts the process on the calling thread, which it was made ready for.
func (s *Starter) launch(plan *plan, std *stdio) (*os.Process, error) {
	if len(plan.proto.GetSecurity().GetSeccomp()) > 0 {
		return s.launchStage2(plan, std)
	}
	if err := plan.confine(); err != nil {
		return nil, err
	}
	sys := session(std)
	sys.Credential = &syscall.Credential{Uid: plan.id.uid, Gid: plan.id.gid, Groups: plan.id.groups}
	sys.AmbientCaps = plan.ambient.numbers()
	p, err := s.fork(plan, plan.path, plan.proto.GetArgs(), &os.ProcAttr{Env: plan.env, Files: std.child[:], Sys: sys})
	if err != nil {
		return nil, notStarted(err)
	}
	return p, nil
}

func session(std *stdio) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Setctty: std.tty}
}

const oomScoreAdj = "/proc/self/oom_score_adj"

// fork starts a process that the kernel kills for memory as readily as it should: it
// inherits that, so for this moment the agent has it too.
func (s *Starter) fork(plan *plan, path string, args []string, attr *os.ProcAttr) (_ *os.Process, err error) {
	s.forking.Lock()
	defer s.forking.Unlock()
	if adj := plan.oomScoreAdj(); adj+"\n" != s.oomScoreAdj {
		if err := os.WriteFile(oomScoreAdj, []byte(adj), 0); err != nil {
			return nil, fmt.Errorf("set oom_score_adj: %w", err)
		}
		defer func() { err = errors.Join(err, os.WriteFile(oomScoreAdj, []byte(s.oomScoreAdj), 0)) }()
	}
	return os.StartProcess(path, args, attr)
}
