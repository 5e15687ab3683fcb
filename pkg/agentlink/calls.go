// SPDX-License-Identifier: Apache-2.0

package agentlink

import (
	"context"
	"maps"
	"sync"

	"github.com/libp2p/go-yamux/v5"
)

// calls are those of one session, on the agent's side. yamux tells nobody that a stream was
// reset but who reads or writes it, and a handler may do neither for long: so calls sees the
// resets itself, as they come in.
type calls struct {
	mu   sync.Mutex
	live map[uint32]context.CancelFunc
	// last is the stream that was accepted last; early are later ones, reset already.
	last  uint32
	early map[uint32]bool
}

// see ends the context of a stream that is reset.
func (c *calls) see(f muxFrame) error {
	if f.flags&flagRST == 0 || f.kind != muxWindow && f.kind != muxData {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if cancel := c.live[f.stream]; cancel != nil {
		cancel()
	} else if f.stream > c.last {
		c.early[f.stream] = true
	}
	return nil
}

// begin returns the context of an accepted stream. yamux hands them out in their order.
func (c *calls) begin(ctx context.Context, id uint32) (callCtx context.Context, end func()) {
	callCtx, cancel := context.WithCancel(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.early[id] {
		cancel()
	}
	c.last = id
	maps.DeleteFunc(c.early, func(early uint32, _ bool) bool { return early <= id })
	c.live[id] = cancel
	return callCtx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.live, id)
		cancel()
	}
}

// accept has the streams handled until the session ends.
func (c *calls) accept(ctx context.Context, mux *yamux.Session, handle Handler) {
	for {
		st, err := mux.AcceptStream()
		if err != nil {
			return
		}
		callCtx, end := c.begin(ctx, st.StreamID())
		go func() {
			defer end()
			s := newStream(callCtx, st, st, st.Close)
			s.session = mux.CloseChan()
			//nolint:errcheck // a stream whose session has ended is closed
			defer func() { _ = s.Close() }()
			handle(callCtx, s)
		}()
	}
}
