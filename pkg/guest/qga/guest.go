// SPDX-License-Identifier: Apache-2.0

// Package qga runs commands in guests, and powers them off, through the
// qemu-guest-agent in them.
//
// The agent is the guest's: whatever it answers is checked and bounded before use. And it
// may hang; so every command to it ends after a few seconds, one command is under way per
// guest, and few over all (docs/architecture.md 4.8).
//
// The protocol: https://qemu-project.gitlab.io/qemu/interop/qemu-ga-ref.html
package qga

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/keylock"
)

// Transport carries one command, a JSON object, to the agent in a sandbox's guest and
// returns the agent's answer. It keeps commands and answers in step: an answer that comes
// late, or is none, is never taken for another command's (libvirt does so by guest-sync).
// Errors: Unavailable while no agent answers, NotFound without a domain,
// FailedPrecondition if it is not active. When the agent answers with an error, the error
// holds the agent's words. Safe for concurrent use.
type Transport interface {
	Command(ctx context.Context, id string, cmd []byte) ([]byte, error)
}

const (
	// commandsInFlight bounds the commands to all guests together.
	commandsInFlight = 4
	// commandTimeout bounds one command. None of those used here waits for anything in
	// the guest, so an agent that takes longer hangs, or its guest does.
	commandTimeout = 5 * time.Second
	// probeTimeout bounds the command that asks whether there is an agent at all.
	probeTimeout = 2 * time.Second
)

// Agent speaks to the qemu-guest-agents of all guests. It is safe for concurrent use.
type Agent struct {
	transport Transport
	guests    keylock.Locks
	slots     chan struct{}
}

// New returns an Agent that sends its commands by t.
func New(t Transport) *Agent {
	return &Agent{transport: t, slots: make(chan struct{}, commandsInFlight)}
}

// command asks the agent to execute something and decodes its answer into result, which
// may be nil. An agent that does not answer within timeout is Unavailable; an error of
// ctx is returned as such.
func (a *Agent) command(ctx context.Context, id string, timeout time.Duration, execute string, arguments, result any) error {
	cmd, err := json.Marshal(request{Execute: execute, Arguments: arguments})
	if err != nil {
		return fmt.Errorf("%s: %w", execute, err)
	}
	unlock, err := a.guests.Lock(ctx, id)
	if err != nil {
		return fmt.Errorf("%s: %w", execute, err)
	}
	defer unlock()
	select {
	case a.slots <- struct{}{}:
		defer func() { <-a.slots }()
	case <-ctx.Done():
		return fmt.Errorf("%s: wait for other guests' agents: %w", execute, ctx.Err())
	}
	answerCtx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	answer, err := a.transport.Command(answerCtx, id, cmd)
	switch {
	case err == nil:
		err = decode(answer, result)
	case ctx.Err() != nil:
		err = ctx.Err()
	case errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("no answer within %s: %w", timeout, errdefs.ErrUnavailable)
	default:
		err = explain(err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", execute, err)
	}
	return nil
}
