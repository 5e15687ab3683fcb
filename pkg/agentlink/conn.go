// SPDX-License-Identifier: Apache-2.0

package agentlink

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"time"
)

const (
	// tagLen is how much of the nonce a Data frame carries, countLen its place in the session.
	tagLen   = 4
	countLen = 4
	// maxData is the most bytes of the session in one frame.
	maxData = maxPayload - tagLen - countLen
)

// errLost is a session whose bytes have a gap.
var errLost = errors.New("a frame of the session was lost")

// conn is one session's bytes on a link, as the net.Conn that yamux wants.
type conn struct {
	link *link
	tag  []byte
	// other is told of frames that are not Data, and ends the session by an error.
	other func(frame) error
	// watch sees what arrives, and ends the session by an error.
	watch func([]byte) error
	// failed is told of the error that ends the session; nil if nobody asks.
	failed func(error)
	// close and deadline are the port's; nil where it is not the session's to end.
	close    func() error
	deadline func(time.Time) error

	rest     []byte // of the frame that was read last
	received uint32 // frames
	failure  error  // of Read; read once that has returned it

	mu   sync.Mutex
	sent uint32 // frames
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	if c.failure != nil {
		return 0, c.failure
	}
	n, err := c.read(p)
	if err != nil {
		c.failure = err
		if c.failed != nil {
			c.failed(err)
		}
		return 0, err
	}
	return n, nil
}

func (c *conn) read(p []byte) (int, error) {
	for len(c.rest) == 0 {
		if err := c.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, c.watch(p[:n])
}

// fill reads one frame.
func (c *conn) fill() error {
	fr, err := c.link.in.next()
	if err != nil {
		return err
	}
	if fr.kind != kindData {
		return c.other(fr)
	}
	if len(fr.payload) < tagLen+countLen || !bytes.Equal(fr.payload[:tagLen], c.tag) {
		return c.link.in.drop(len(fr.payload) + 1)
	}
	if binary.BigEndian.Uint32(fr.payload[tagLen:]) != c.received {
		return errLost
	}
	c.received++
	c.rest = fr.payload[tagLen+countLen:]
	return nil
}

// Write implements net.Conn.
func (c *conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	written := 0
	for written < len(p) {
		piece := p[written:min(len(p), written+maxData)]
		var count [countLen]byte
		binary.BigEndian.PutUint32(count[:], c.sent)
		if err := c.link.out.write(kindData, c.tag, count[:], piece); err != nil {
			return written, err
		}
		c.sent++
		written += len(piece)
	}
	return written, nil
}

// Close implements net.Conn.
func (c *conn) Close() error {
	if c.close == nil {
		return nil
	}
	return c.close()
}

// SetWriteDeadline implements net.Conn.
func (c *conn) SetWriteDeadline(t time.Time) error {
	if c.deadline == nil {
		return nil
	}
	return c.deadline(t)
}

// SetReadDeadline implements net.Conn; yamux sets none.
func (*conn) SetReadDeadline(time.Time) error { return errors.ErrUnsupported }

// SetDeadline implements net.Conn; yamux sets none.
func (*conn) SetDeadline(time.Time) error { return errors.ErrUnsupported }

// LocalAddr implements net.Conn.
func (*conn) LocalAddr() net.Addr { return addr{} }

// RemoteAddr implements net.Conn.
func (*conn) RemoteAddr() net.Addr { return addr{} }

var _ net.Conn = (*conn)(nil)

// addr is where a port is.
type addr struct{}

// Network implements net.Addr.
func (addr) Network() string { return "virtio-serial" }

func (addr) String() string { return "org.vmlet.agent.0" }
