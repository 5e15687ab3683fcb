// SPDX-License-Identifier: Apache-2.0

package agentlink

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/proto"

	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

const (
	// garbage is what a port may bring, while it is connected, that is of no use: what is left
	// of older sessions is less.
	garbage = 4 << 20
	// How often Hello is said again while nobody answers: the first may have met garbage.
	helloAgain = time.Second
	helloMost  = time.Minute
	// afterReady is how long the Welcome for a Hello that was said before a Ready may take.
	afterReady = 50 * time.Millisecond

	maxBootID   = 64
	maxText     = 128
	maxFeatures = 64
)

// Peer is what an agent says of itself. It is the guest's word: bounded and printable, and
// not to be trusted.
type Peer struct {
	BootID   string
	Version  string
	Features []string
	// Protocol is the version that both sides speak.
	Protocol uint32
}

// Connect begins a session on a fresh connection to a guest's port: it waits for an agent to
// answer until ctx ends. FailedPrecondition if the agent speaks other versions. The
// connection is the session's from now on, and closed if there is none.
func Connect(ctx context.Context, port net.Conn) (*Session, error) {
	stop := context.AfterFunc(ctx, func() {
		//nolint:errcheck // a closed one has nothing to interrupt
		_ = port.SetDeadline(past)
	})
	s, err := connect(ctx, port)
	if !stop() && err == nil {
		err = errors.Join(ctx.Err(), s.Close())
	}
	if err == nil {
		return s, nil
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if closeErr := port.Close(); closeErr != nil && !errors.Is(closeErr, net.ErrClosed) {
		err = errors.Join(err, closeErr)
	}
	return nil, err
}

func connect(ctx context.Context, port net.Conn) (*Session, error) {
	nonce := make([]byte, nonceLen)
	rand.Read(nonce)
	h := &handshake{
		ctx: ctx, port: port,
		link:  &link{in: newFrameReader(port, garbage), out: newFrameWriter(port)},
		hello: &agentv1.Hello{Nonce: nonce, Version: version, Oldest: oldest},
	}
	welcome, err := h.run()
	if err != nil {
		return nil, err
	}
	peer, err := accept(welcome)
	if err != nil {
		return nil, err
	}
	if err := port.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	return start(port, h.link, nonce, peer)
}

// handshake is a host that waits for its Welcome.
type handshake struct {
	ctx   context.Context //nolint:containedctx // the handshake is one call
	port  net.Conn
	link  *link
	hello *agentv1.Hello
}

// run says Hello, and again soon after each Ready and, less and less often, without any.
func (h *handshake) run() (*agentv1.Welcome, error) {
	for pause := helloAgain; ; pause = min(2*pause, helloMost) {
		if err := h.link.tell(kindHello, h.hello); err != nil {
			return nil, err
		}
		welcome, err := h.await(pause)
		if welcome != nil || err != nil {
			return welcome, err
		}
	}
}

// await waits for the Welcome, until it is time to say Hello again: then it returns nothing.
func (h *handshake) await(pause time.Duration) (*agentv1.Welcome, error) {
	if err := h.until(pause); err != nil {
		return nil, err
	}
	ready := false
	for {
		fr, err := h.link.in.next()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, h.ctx.Err()
		case err != nil:
			return nil, err
		}
		w := &agentv1.Welcome{}
		if fr.kind == kindWelcome && proto.Unmarshal(fr.payload, w) == nil && bytes.Equal(w.GetNonce(), h.hello.GetNonce()) {
			return w, nil
		}
		if fr.kind == kindReady && !ready {
			// An agent has opened the port. What was said before may still reach it, or not.
			ready = true
			if err := h.until(afterReady); err != nil {
				return nil, err
			}
		}
		if err := h.link.in.drop(len(fr.payload) + 1); err != nil {
			return nil, err
		}
	}
}

// until bounds the next reads, by ctx at least.
func (h *handshake) until(pause time.Duration) error {
	if err := h.port.SetReadDeadline(time.Now().Add(pause)); err != nil {
		return err
	}
	return h.ctx.Err() // whose deadline was overwritten, maybe
}

// accept checks a Welcome.
func accept(w *agentv1.Welcome) (Peer, error) {
	switch {
	case w.GetVersion() == 0:
		return Peer{}, fmt.Errorf("vmlet-agent %s: %s: %w",
			Printable(w.GetAgent(), maxText), Printable(w.GetError().GetMessage(), maxText), errdefs.ErrFailedPrecondition)
	case w.GetVersion() < oldest || w.GetVersion() > version:
		return Peer{}, fmt.Errorf("%w: version %d", errProtocol, w.GetVersion())
	case len(w.GetFeatures()) > maxFeatures:
		return Peer{}, fmt.Errorf("%w: %d features", errProtocol, len(w.GetFeatures()))
	case w.GetBootId() == "" || len(w.GetBootId()) > maxBootID || Printable(w.GetBootId(), maxBootID) != w.GetBootId():
		return Peer{}, fmt.Errorf("%w: boot ID of %d bytes", errProtocol, len(w.GetBootId()))
	}
	p := Peer{BootID: w.GetBootId(), Version: Printable(w.GetAgent(), maxText), Protocol: w.GetVersion()}
	for _, f := range w.GetFeatures() {
		p.Features = append(p.Features, Printable(f, maxText))
	}
	return p, nil
}

// Printable makes a guest's text fit for one line of a log or of an error: no more
// bytes of it than most, without control characters.
func Printable(s string, most int) string {
	s = strings.ToValidUTF8(s[:min(len(s), most)], "?")
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, s))
}
