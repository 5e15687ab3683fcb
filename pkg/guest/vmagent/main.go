// SPDX-License-Identifier: Apache-2.0

package vmagent

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// StartMain starts the container's command, once: idempotent for the same ID.
func (a *Agents) StartMain(ctx context.Context, id string, m vm.Main) error {
	p, err := process(m.Process)
	if err != nil {
		return err
	}
	_, err = a.insist(ctx, id, &agentv1.Request{Call: &agentv1.Request_StartMain{StartMain: &agentv1.StartMainRequest{
		Id: m.ID, Process: p, Stdin: m.Stdin, StdinOnce: m.StdinOnce, TerminationLog: m.TerminationLog,
	}}})
	return err
}

// WaitMain returns when the command has ended, at once if it has already. It outlasts
// sessions. NotFound if the command was not started since the guest booted.
func (a *Agents) WaitMain(ctx context.Context, id, mainID string) (vm.MainExit, error) {
	reply, err := a.insist(ctx, id, &agentv1.Request{Call: &agentv1.Request_WaitMain{
		WaitMain: &agentv1.WaitMainRequest{Id: mainID},
	}})
	if err != nil {
		return vm.MainExit{}, err
	}
	return mainExit(reply.GetMainExit(), mainID)
}

// AckMain lets the agent forget the exit and power the guest off. Unavailable if the guest
// was gone before it could answer, by that or by something else.
func (a *Agents) AckMain(ctx context.Context, id, mainID string) error {
	_, err := a.Ask(ctx, id, &agentv1.Request{Call: &agentv1.Request_AckMain{
		AckMain: &agentv1.AckMainRequest{Id: mainID, PowerOff: true},
	}})
	return err
}

// SignalMain sends the command a signal. NotFound if it does not run.
func (a *Agents) SignalMain(ctx context.Context, id, mainID, signal string) error {
	_, err := a.Ask(ctx, id, &agentv1.Request{Call: &agentv1.Request_SignalMain{
		SignalMain: &agentv1.SignalMainRequest{Id: mainID, Signal: signal},
	}})
	return err
}

// AttachMain gives the command input until stdin ends and all of it was given, ctx ends, or
// the command does: the last is no error. Stdin may be read from, in a goroutine of its own,
// until it ends.
func (a *Agents) AttachMain(ctx context.Context, id, mainID string, stdin io.Reader, sizes <-chan vm.TerminalSize) error {
	live, cancel := context.WithCancel(ctx)
	defer cancel()
	st, err := a.open(ctx, live, id, &agentv1.Request{Call: &agentv1.Request_AttachMain{
		AttachMain: &agentv1.AttachMainRequest{Id: mainID},
	}})
	if err != nil {
		return err
	}
	//nolint:errcheck // it ends a stream that is of no use any more
	defer func() { _ = st.Close() }()

	if stdin != nil {
		go func() {
			//nolint:errcheck // whatever ended the input, this client brings no more; a session's end is seen by who reads
			_ = give(st, stdin)
			//nolint:errcheck // the same
			_ = st.CloseWrite()
		}()
	}
	if sizes != nil {
		go resize(live, st, sizes)
	}
	err = st.Receive(&agentv1.FromProcess{})
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil:
		return nonsense(errors.New("output of an attached command"))
	case errdefs.IsUnavailable(err):
		return fmt.Errorf("%w: %w", errGone, err)
	}
	return err
}
