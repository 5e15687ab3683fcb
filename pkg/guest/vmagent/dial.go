// SPDX-License-Identifier: Apache-2.0

package vmagent

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vmlet/vmlet/pkg/agentlink"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// Dial connects to a TCP port of the guest's loopback, 127.0.0.1 and then ::1. ctx is for
// the dialling only. The connection has CloseWrite. Unavailable if nothing listens there.
func (a *Agents) Dial(ctx context.Context, id string, port uint16) (net.Conn, error) {
	life, err := a.Life(id)
	if err != nil {
		return nil, err
	}
	life, cancel := context.WithCancel(life)
	st, err := a.open(ctx, life, id, &agentv1.Request{Call: &agentv1.Request_Dial{
		Dial: &agentv1.DialRequest{Network: "tcp", Port: uint32(port)},
	}})
	if err != nil {
		cancel()
		return nil, err
	}
	return &conn{Stream: st, port: port, cancel: cancel}, nil
}

// lingers is how long a closed connection has to bring what was written to the guest.
const lingers = 10 * time.Second

// conn is a connection to a port of the guest's loopback.
type conn struct {
	*agentlink.Stream
	port    uint16
	cancel  context.CancelFunc
	reading sync.Mutex
	closed  atomic.Bool
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	if c.closed.Load() {
		return 0, net.ErrClosed
	}
	n, err := c.Stream.Read(p)
	if err != nil && c.closed.Load() {
		err = net.ErrClosed
	}
	return n, err
}

// Write implements net.Conn.
func (c *conn) Write(p []byte) (int, error) {
	if c.closed.Load() {
		return 0, net.ErrClosed
	}
	return c.Stream.Write(p)
}

// Close implements net.Conn: what was written still arrives, as with TCP.
func (c *conn) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	err := c.SetReadDeadline(time.Unix(1, 0)) // for whoever reads
	go c.linger()
	return err
}

// linger ends the connection once the other side has closed its half too.
func (c *conn) linger() {
	defer c.cancel()
	//nolint:errcheck // nobody is left to be told
	defer func() { _ = c.Stream.Close() }()
	c.reading.Lock()
	defer c.reading.Unlock()
	if c.SetDeadline(time.Now().Add(lingers)) == nil && c.CloseWrite() == nil {
		//nolint:errcheck // the same
		_, _ = io.Copy(io.Discard, c.Stream)
	}
}

// LocalAddr implements net.Conn.
func (*conn) LocalAddr() net.Addr { return &net.TCPAddr{} }

// RemoteAddr implements net.Conn.
func (c *conn) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(c.port)}
}
