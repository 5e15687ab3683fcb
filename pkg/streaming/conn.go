// SPDX-License-Identifier: Apache-2.0

package streaming

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// errGone is why the context of a stream ended whose client closed its connection.
var errGone = errors.New("the client has gone")

// look is how often a connection is asked whether its client is still there. It is needed
// for a client whose input nobody takes only: else reading hears of it at once.
const look = 15 * time.Second

// conn is a client's connection. net/http's context of a request does not end with a
// connection that was hijacked, as both protocols do; this one's does.
type conn struct {
	net.Conn
	gone context.CancelCauseFunc

	mu    sync.Mutex
	limit time.Time // no deadline is later; zero for no limit
}

// listener accepts connections that know when their clients have gone.
type listener struct{ net.Listener }

// Accept implements net.Listener.
func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c}, nil
}

type connKey struct{}

// connContext is http.Server's ConnContext: ctx, until the client has gone.
func connContext(ctx context.Context, nc net.Conn) context.Context {
	if secured, ok := nc.(*tls.Conn); ok {
		nc = secured.NetConn()
	}
	c, ok := nc.(*conn)
	if !ok {
		return ctx
	}
	ctx, c.gone = context.WithCancelCause(ctx)
	return context.WithValue(ctx, connKey{}, c)
}

// connOf is the connection of a request's context.
func connOf(ctx context.Context) *conn {
	c, _ := ctx.Value(connKey{}).(*conn) //nolint:errcheck // nil for a request that came otherwise
	return c
}

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	// net/http ends its own reading with a deadline before it hands a connection over.
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		c.gone(errGone)
	}
	return n, err
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.gone(errGone)
	return c.Conn.Close()
}

// attend looks after a connection whose streams are in use, until stop is called. When the
// client has gone while its input was not read, ctx ends as well. When ctx has ended, for
// whatever reason, what reads or writes the connection is given farewell to finish.
func (c *conn) attend(ctx context.Context, farewell time.Duration) (stop func()) {
	done := make(chan struct{})
	go func() {
		tick := time.NewTicker(look)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				if c.halfClosed() {
					c.gone(errGone)
				}
			case <-ctx.Done():
				c.expire(farewell)
				return
			}
		}
	}()
	return func() { close(done) }
}

// expire lets nobody read or write the connection for longer than d from now on, whatever
// deadlines the protocols set for an idle one.
func (c *conn) expire(d time.Duration) {
	limit := time.Now().Add(d)
	c.mu.Lock()
	if c.limit.IsZero() || limit.Before(c.limit) {
		c.limit = limit
	}
	c.mu.Unlock()
	_ = c.SetDeadline(limit) //nolint:errcheck // it is closed already
}

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error { return c.Conn.SetDeadline(c.within(t)) }

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error { return c.Conn.SetReadDeadline(c.within(t)) }

// SetWriteDeadline implements net.Conn.
func (c *conn) SetWriteDeadline(t time.Time) error { return c.Conn.SetWriteDeadline(c.within(t)) }

func (c *conn) within(t time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.limit.IsZero() && (t.IsZero() || t.After(c.limit)) {
		return c.limit
	}
	return t
}

// halfClosed tells whether the client closed its side, though there may be bytes to read.
func (c *conn) halfClosed() bool {
	tcp, ok := c.Conn.(*net.TCPConn)
	if !ok {
		return false
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return false
	}
	hungUp := false
	err = raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(fds, 0)
		hungUp = err == nil && n > 0 && fds[0].Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
	})
	return err == nil && hungUp
}
