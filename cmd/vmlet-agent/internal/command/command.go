// SPDX-License-Identifier: Apache-2.0

// Package command runs the container's command, the guest's main process, and holds its exit
// until vmlet has it on record.
//
//	none --Start--> running --it ends--> ended --Ack--> none
//
// A session's end changes nothing. The agent's own end does: the command dies with it, since
// nobody is left to wait for it, and the next agent finds that out from the journal.
package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/mountns"
	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/output"
	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/process"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// Config is what a Runner needs.
type Config struct {
	Starter    *process.Starter
	Namespaces *mountns.Set
	// OutputPort is the path of the port that output goes to, "" while there is none.
	OutputPort func() string
	// Dir is a folder that the next boot finds empty.
	Dir string
	// Log is told what nobody else is.
	Log func(error)
}

// Runner runs one command at a time. For concurrent use.
type Runner struct {
	Config
	journal journal

	mu      sync.Mutex
	port    *output.Port
	current *command
	// acked is the command before, which is not to be started again.
	acked string
}

// command is one that was started, if perhaps in vain.
type command struct {
	id    string
	proc  *process.Process // nil if it never ran
	input *input           // nil without
	done  chan struct{}
	exit  *agentv1.MainExit // once done is closed
}

// New returns a Runner that knows what the agent before has left behind.
func New(c Config) (*Runner, error) {
	j, err := openJournal(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("journal of commands: %w", err)
	}
	r := &Runner{Config: c, journal: j}
	left, err := j.recover()
	if err != nil {
		return nil, fmt.Errorf("journal of commands: %w", err)
	}
	if left != nil {
		r.current = &command{id: left.GetId(), exit: left, done: make(chan struct{})}
		close(r.current.done)
	}
	return r, nil
}

// Start starts a command. It does nothing for the one that runs, or has ended, already.
// FailedPrecondition while there is another one, or the machine has no port for its output.
// A program that cannot be started has an exit as if it had run.
func (r *Runner) Start(req *agentv1.StartMainRequest) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := req.GetId()
	switch {
	case id == "" || len(id) > maxID:
		return fmt.Errorf("a command needs an ID of at most %d bytes: %w", maxID, errdefs.ErrInvalidArgument)
	case r.current != nil && r.current.id == id:
		return nil
	case r.current != nil:
		return fmt.Errorf("command %s has not come to its end: %w", r.current.id, errdefs.ErrFailedPrecondition)
	case r.acked == id:
		return fmt.Errorf("command %s has ended, and its exit is on record: %w", id, errdefs.ErrFailedPrecondition)
	}
	if r.port == nil {
		port, err := output.Open(r.OutputPort())
		if err != nil {
			return fmt.Errorf("%w: %w", err, errdefs.ErrFailedPrecondition)
		}
		r.port = port
	}
	if err := r.journal.begin(id); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	c := &command{id: id, done: make(chan struct{})}
	proc, err := r.Starter.Start(req.GetProcess(), req.GetStdin())
	if errors.Is(err, process.ErrTooMany) {
		return errors.Join(err, r.journal.forget())
	}
	if err != nil {
		c.exit = failed(id, err)
		close(c.done)
		r.current = c
		return r.journal.end(c.exit)
	}
	r.journal.running(id, proc.PID(), r.Log)
	c.proc = proc
	if proc.Stdin != nil {
		c.input = newInput(proc.Stdin, req.GetProcess().GetTty(), req.GetStdinOnce())
	}
	r.current = c
	go r.attend(c, req)
	return nil
}

// failed is the exit of a command that was not started.
func failed(id string, err error) *agentv1.MainExit {
	code := int32(notExecutable)
	if e, ok := errors.AsType[*process.Error](err); ok {
		code = e.Code
	}
	return &agentv1.MainExit{
		Id: id, StartError: truncate(err.Error(), maxStartError),
		Exit: &agentv1.Exit{Code: code, AtUnixNano: time.Now().UnixNano()},
	}
}

// Wait returns a command's exit once it has ended. NotFound for one that is not there.
func (r *Runner) Wait(ctx context.Context, id string) (*agentv1.MainExit, error) {
	c, err := r.find(id)
	if err != nil {
		return nil, err
	}
	select {
	case <-c.done:
		return c.exit, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Ack forgets a command's exit. It does nothing for the one that was forgotten last.
// FailedPrecondition while it runs, NotFound if it is not there.
func (r *Runner) Ack(id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.acked == id && id != "" {
		return nil
	}
	if r.current == nil || r.current.id != id {
		return notFound(id)
	}
	select {
	case <-r.current.done:
	default:
		return fmt.Errorf("command %s has not ended: %w", id, errdefs.ErrFailedPrecondition)
	}
	r.current, r.acked = nil, id
	return r.journal.forget()
}

// Signal sends a command a signal, by its name. NotFound if it does not run.
func (r *Runner) Signal(id, name string) error {
	sig, err := signalNumber(name)
	if err != nil {
		return err
	}
	c, err := r.find(id)
	if err != nil {
		return err
	}
	if c.proc == nil {
		return notFound(id)
	}
	err = c.proc.Signal(sig)
	if errors.Is(err, os.ErrProcessDone) {
		return notFound(id)
	}
	return err
}

func (r *Runner) find(id string) (*command, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current == nil || r.current.id != id {
		return nil, notFound(id)
	}
	return r.current, nil
}

func notFound(id string) error {
	return fmt.Errorf("command %.64q does not run: %w", id, errdefs.ErrNotFound)
}
