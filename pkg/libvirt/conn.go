// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	virt "libvirt.org/go/libvirt"
)

// The pause before a dial that follows a failed one, or a connection that was lost at
// once. A dial to a socket where nobody listens costs microseconds.
const (
	minRedial = 50 * time.Millisecond
	maxRedial = time.Second
)

// conn is a connection to libvirt that comes back when it is lost.
type conn struct {
	uri     string
	observe func(operation string, took time.Duration, err error)
	// setUp prepares each new session before anyone else may use it.
	setUp func(*session) error
	// onUp is called when a session is ready for calls; again is false only for a first
	// dial that succeeded. It must return soon; its ctx ends with the session.
	onUp func(ctx context.Context, again bool)

	slots chan struct{}
	tried chan struct{} // closed when the first dial has ended
	stop  context.CancelFunc
	ended chan struct{}

	mu   sync.Mutex
	live *session      // nil while down
	up   chan struct{} // closed while live is set
	why  error         // why it is down
}

// newConn starts to dial and returns at once. The connection is kept up until ctx ends or
// it is closed.
func newConn(
	ctx context.Context, cfg Config, setUp func(*session) error, onUp func(ctx context.Context, again bool),
) *conn {
	ctx, cancel := context.WithCancel(ctx)
	c := &conn{
		uri: cfg.URI, observe: cfg.Observe, setUp: setUp, onUp: onUp,
		slots: make(chan struct{}, callsInFlight),
		tried: make(chan struct{}),
		stop:  cancel,
		ended: make(chan struct{}),
		up:    make(chan struct{}),
		why:   errors.New("not dialled yet"),
	}
	go c.keepUp(ctx)
	return c
}

// keepUp dials, waits for the loss of the connection, and dials again, until ctx ends.
func (c *conn) keepUp(ctx context.Context) {
	defer close(c.ended)
	pause := minRedial
	for again := false; ctx.Err() == nil; again = true {
		s, err := c.dial(ctx)
		began := time.Now()
		if err != nil {
			c.setDown(err)
		} else {
			c.setLive(s)
		}
		if !again {
			close(c.tried)
		}
		if err == nil {
			c.setDown(c.serve(ctx, s, again))
			s.unsubscribe()
			s.leave()
		}
		if time.Since(began) > maxRedial {
			pause = minRedial
		}
		sleep(ctx, pause)
		pause = min(2*pause, maxRedial)
	}
}

// dial opens a session, or leaves it to itself when ctx ends first.
func (c *conn) dial(ctx context.Context) (*session, error) {
	type outcome struct {
		s   *session
		err error
	}
	dialled := make(chan outcome, 1)
	go func() {
		s, err := openSession(c.uri, c.setUp)
		dialled <- outcome{s, err}
	}()
	select {
	case o := <-dialled:
		return o.s, o.err
	case <-ctx.Done():
		go func() {
			if o := <-dialled; o.err == nil {
				o.s.unsubscribe()
				o.s.leave()
			}
		}()
		return nil, ctx.Err()
	}
}

// serve returns why the session ended.
func (c *conn) serve(ctx context.Context, s *session, again bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.onUp(ctx, again)
	select {
	case reason := <-s.lost:
		return fmt.Errorf("the connection was lost: %s", closeReasons[reason])
	case <-ctx.Done():
		return errors.New("closed by us")
	}
}

var closeReasons = map[virt.ConnectCloseReason]string{
	virt.CONNECT_CLOSE_REASON_ERROR:     "an error on the socket",
	virt.CONNECT_CLOSE_REASON_EOF:       "libvirtd closed it",
	virt.CONNECT_CLOSE_REASON_KEEPALIVE: "libvirtd answered no keepalive",
	virt.CONNECT_CLOSE_REASON_CLIENT:    "closed by the client",
}

// close gives the connection up. Calls that hang in libvirt hold their session.
func (c *conn) close() {
	c.stop()
	<-c.ended
}

// waitUp returns when the connection is up, or with ctx's error.
func (c *conn) waitUp(ctx context.Context) error {
	c.mu.Lock()
	up := c.up
	c.mu.Unlock()
	select {
	case <-up:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// session returns the live session, entered; the caller leaves it. Unavailable while down.
func (c *conn) session() (*session, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.live == nil {
		return nil, fmt.Errorf("libvirt at %s: %w: %w", c.uri, c.why, errdefs.ErrUnavailable)
	}
	c.live.enter()
	return c.live, nil
}

func (c *conn) setLive(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.live, c.why = s, nil
	close(c.up)
}

func (c *conn) setDown(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.live != nil {
		c.up = make(chan struct{})
	}
	c.live, c.why = nil, why
}

// sleep waits for d or for the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
