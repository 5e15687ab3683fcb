// SPDX-License-Identifier: Apache-2.0

// Package vmagent speaks to the vmlet-agent in each guest, on a connection of its own to
// QEMU's socket for the agent's port: it keeps a session over reboots of the guest and
// restarts of either side, and makes the calls of proto/agent/v1 on it.
//
// The guest is not trusted. What it answers is bounded before it is read, checked before it
// is used, and made printable before it is shown. What it does not answer ends with the
// caller's context.
package vmagent

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/errdefs"
)

// Agents are the guests' vmlet-agents. It is safe for concurrent use.
type Agents struct {
	socket  func(id string) string
	reboots chan string
	changes *changes
	silence time.Duration // as silenceFirst

	mu     sync.Mutex
	guests map[string]*guest
}

// New returns Agents without any guest. socket names the unix socket that QEMU has for a
// sandbox's agent.
func New(socket func(id string) string) *Agents {
	return &Agents{socket: socket, reboots: make(chan string), changes: newChanges(), silence: silenceFirst, guests: map[string]*guest{}}
}

// Connect begins to dial the guest's agent, and goes on until Disconnect. It returns at
// once. Idempotent.
func (a *Agents) Connect(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.guests[id] != nil {
		return
	}
	//nolint:forbidigo // the session belongs to no caller; Disconnect ends it
	ctx, cancel := context.WithCancel(context.Background())
	g := &guest{
		id: id, socket: a.socket(id), reboots: a.reboots, changes: a.changes, silence: a.silence, life: ctx, cancel: cancel,
		done: make(chan struct{}), changed: make(chan struct{}),
	}
	a.guests[id] = g
	go g.run(ctx)
}

// Disconnect ends the session and its calls, and returns when nothing of it runs any more.
// Idempotent.
func (a *Agents) Disconnect(id string) {
	a.mu.Lock()
	g := a.guests[id]
	delete(a.guests, id)
	a.mu.Unlock()
	if g != nil {
		g.cancel()
		<-g.done
	}
}

// Reboots delivers a sandbox's ID each time its agent comes up in a boot that is not the one
// of the session before. What happens twice before it is read is delivered once.
func (a *Agents) Reboots() <-chan string { return a.reboots }

// AwaitChange returns the sandbox's ID of an agent that has begun to answer, or answers no more, since the last time. One
// caller at a time.
func (a *Agents) AwaitChange(ctx context.Context) (id string, err error) { return a.changes.next(ctx) }

// State tells whether the agent answers now, and the boot ID of its guest, "" if it does not.
func (a *Agents) State(id string) (bootID string, answers bool) {
	g, err := a.guest(id)
	if err != nil {
		return "", false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.session == nil {
		return "", false
	}
	return g.boot, true
}

// Await returns once the agent answers, with the boot ID of its guest.
func (a *Agents) Await(ctx context.Context, id string) (bootID string, err error) {
	g, err := a.guest(id)
	if err != nil {
		return "", err
	}
	s, err := g.await(ctx)
	if err != nil {
		return "", err
	}
	return s.Peer().BootID, nil
}

// Seen tells whether the guest's agent has answered since Connect.
func (a *Agents) Seen(id string) bool {
	g, err := a.guest(id)
	return err == nil && g.seen()
}

// Answers tells whether there is a session with the guest's agent now.
func (a *Agents) Answers(id string) bool {
	g, err := a.guest(id)
	return err == nil && g.current() != nil
}

// Life returns a context that ends with Disconnect: for what goes on beside the calls.
func (a *Agents) Life(id string) (context.Context, error) {
	g, err := a.guest(id)
	if err != nil {
		return nil, err
	}
	return g.life, nil
}

func (a *Agents) guest(id string) (*guest, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if g := a.guests[id]; g != nil {
		return g, nil
	}
	return nil, fmt.Errorf("the guest of %s is not connected: %w", id, errdefs.ErrFailedPrecondition)
}
