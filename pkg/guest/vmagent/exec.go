// SPDX-License-Identifier: Apache-2.0

package vmagent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/agentlink"
	"github.com/vmlet/vmlet/pkg/vm"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// killTimeout is how long the guest has to tell of the end of a process that was killed.
const killTimeout = 5 * time.Second

// Exec runs a process to its end with its streams connected, and returns its exit code: 128
// and the signal's number if a signal ended it, 127 or 126 if it could not be started.
//
// When ctx ends first, or Stdout or Stderr fail, the process is killed with its session.
// Exec returns when the guest has said so, or soon if it does not; never before a Write to
// Stdout or Stderr has returned. Stdin may be read from, in a goroutine of its own, until it
// ends, though what it brings then goes nowhere.
func (a *Agents) Exec(ctx context.Context, id string, p vm.Process, s vm.Streams) (exitCode int32, err error) {
	req := &agentv1.ExecRequest{Stdin: s.Stdin != nil}
	if req.Process, err = process(p); err != nil {
		return 0, err
	}
	// The stream outlives ctx by the kill.
	live, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	st, err := a.open(ctx, live, id, &agentv1.Request{Call: &agentv1.Request_Exec{Exec: req}})
	if err != nil {
		return 0, err
	}
	//nolint:errcheck // it ends a stream that is of no use any more
	defer func() { _ = st.Close() }()
	defer killAtEnd(ctx, st)()

	if s.Stdin != nil {
		go func() {
			if give(st, s.Stdin) == nil {
				//nolint:errcheck // the process has ended
				_ = st.Send(&agentv1.ToProcess{What: &agentv1.ToProcess_CloseStdin{CloseStdin: true}})
			}
		}()
	}
	if s.Resize != nil {
		go resize(live, st, s.Resize)
	}
	exitCode, err = follow(st, s)
	return exitCode, instead(ctx, err)
}

// killAtEnd has the agent kill the process when ctx ends, and gives the call up if it does
// not tell of its end.
func killAtEnd(ctx context.Context, st *agentlink.Stream) (stop func()) {
	over := make(chan struct{})
	unbind := context.AfterFunc(ctx, func() {
		if st.CloseWrite() == nil {
			timer := time.NewTimer(killTimeout)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-over:
				return
			}
		}
		//nolint:errcheck // it ends a stream that is of no use any more
		_ = st.Close()
	})
	return func() {
		close(over)
		unbind()
	}
}

// follow writes a process's output where it belongs, until its exit.
func follow(st *agentlink.Stream, s vm.Streams) (int32, error) {
	st.Limit(shortAnswer)
	for {
		var m agentv1.FromProcess
		err := st.Receive(&m)
		switch {
		case errors.Is(err, io.EOF):
			return 0, fmt.Errorf("%w: %w", errGone, errdefs.ErrUnavailable)
		case err != nil:
			return 0, err
		}
		switch what := m.GetWhat().(type) {
		case *agentv1.FromProcess_Stdout:
			err = write(s.Stdout, what.Stdout)
		case *agentv1.FromProcess_Stderr:
			err = write(s.Stderr, what.Stderr)
		case *agentv1.FromProcess_Exit:
			return exitCode(what.Exit)
		}
		if err != nil {
			return 0, fmt.Errorf("write the command's output: %w", err)
		}
	}
}

func write(w io.Writer, b []byte) error {
	if w == nil || len(b) == 0 {
		return nil
	}
	_, err := w.Write(b)
	return err
}
