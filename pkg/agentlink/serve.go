// SPDX-License-Identifier: Apache-2.0

package agentlink

import (
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/libp2p/go-yamux/v5"

	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// Info is what an agent says of itself in each handshake.
type Info struct {
	BootID string
	// Version is the agent's own, for people.
	Version string
	// Features are those of its calls that a host may find missing elsewhere.
	Features []string
}

// Handler serves one call. The stream is closed when it returns. ctx ends when vmlet has
// given the call up, or the session is over: what the call holds is to be let go then.
type Handler func(ctx context.Context, s *Stream)

// Serve is the agent's side of the link: it announces itself on the port and serves the
// calls of one session after another, each call in a goroutine of its own, until ctx ends
// or the port fails; then it closes the port and returns why.
//
// The port is /dev/virtio-ports/NAME, opened once: its Read returns io.EOF and its Write
// blocks while no host is connected, and both go on when one is.
func Serve(ctx context.Context, port io.ReadWriteCloser, info Info, handle Handler) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	closed := make(chan error, 1)
	context.AfterFunc(ctx, func() { closed <- port.Close() })

	a := &agent{link: &link{in: newFrameReader(port, -1), out: newFrameWriter(port)}, info: info, handle: handle, pace: pacer{first: pauseFirst}}
	err := a.serve(ctx)
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	cancel()
	return errors.Join(err, <-closed)
}

// errSuperseded is a session that ended by the beginning of another one.
var errSuperseded = errors.New("another session began")

// agent is the agent's side of one port.
type agent struct {
	link   *link
	info   Info
	handle Handler
	pace   pacer // of announcements
}

// serve returns the port's error.
func (a *agent) serve(ctx context.Context) error {
	for {
		if err := a.pace.wait(ctx); err != nil {
			return err
		}
		if err := a.link.tell(kindReady, &agentv1.Ready{BootId: a.info.BootID}); err != nil {
			return err
		}
		hello, err := a.await()
		for err == nil && hello != nil {
			hello, err = a.session(ctx, hello)
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
}

// await reads until there is a Hello.
func (a *agent) await() (*agentv1.Hello, error) {
	for {
		fr, err := a.link.in.next()
		if err != nil {
			return nil, err
		}
		if m, ok := hello(fr); ok {
			return m, nil
		}
	}
}

// welcome answers a Hello, and tells whether there is a session now.
func (a *agent) welcome(hello *agentv1.Hello) (bool, error) {
	w := &agentv1.Welcome{
		Nonce: hello.GetNonce(), BootId: a.info.BootID, Agent: a.info.Version, Features: a.info.Features,
	}
	common, err := agree(hello)
	w.Version = common
	if err != nil {
		w.Error = &agentv1.Error{Class: agentv1.Error_FAILED_PRECONDITION, Message: err.Error()}
	}
	return common != 0, a.link.tell(kindWelcome, w)
}

// session serves the session of a Hello to its end. It returns the Hello of the next one if
// that is what ended it, or the port's error if that did.
func (a *agent) session(ctx context.Context, first *agentv1.Hello) (next *agentv1.Hello, err error) {
	if there, err := a.welcome(first); err != nil || !there {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	calls := &calls{live: map[uint32]context.CancelFunc{}, early: map[uint32]bool{}}
	watcher := &muxWatcher{see: calls.see}
	c := &conn{link: a.link, tag: first.GetNonce()[:tagLen], watch: watcher.watch}
	c.other = func(fr frame) error {
		m, ok := hello(fr)
		switch {
		case !ok:
			return nil
		case bytes.Equal(m.GetNonce(), first.GetNonce()):
			_, err := a.welcome(m)
			return err
		}
		next = m
		return errSuperseded
	}
	mux, err := yamux.Server(c, muxConfig(agentStreams), nil)
	if err != nil {
		return nil, err
	}
	calls.accept(ctx, mux, a.handle)
	// What the calls hold is let go even where a write waits for a host that has gone.
	cancel()
	if err := mux.Close(); err != nil {
		return nil, err
	}
	if c.failure == nil || errors.Is(c.failure, errLost) || errors.Is(c.failure, errSuperseded) {
		return next, nil // the port is as good as ever
	}
	return nil, c.failure
}
