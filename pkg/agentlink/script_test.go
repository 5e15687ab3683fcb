// SPDX-License-Identifier: Apache-2.0

package agentlink

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/vmlet/vmlet/pkg/agentlink/agentlinktest"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// scripted is one side of a port that a test plays, frame by frame.
type scripted struct {
	t    *testing.T
	port interface {
		Write([]byte) (int, error)
	}
	link *link
}

// guestOf returns a port's host side, and its guest side to play.
func guestOf(t *testing.T) (net.Conn, *scripted) {
	t.Helper()
	port := agentlinktest.NewPort()
	host, err := port.Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		anyway(host.Close(), port.Close())
	})
	return host, &scripted{t: t, port: port, link: &link{in: newFrameReader(port, -1), out: newFrameWriter(port)}}
}

// hostOf serves an agent on a port, and returns the host's side to play.
func hostOf(t *testing.T, handle Handler) (*scripted, *agentlinktest.Port) {
	t.Helper()
	port := agentlinktest.NewPort()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := Serve(ctx, port, Info{BootID: "boot"}, handle); err == nil {
			t.Error("Serve returned no error")
		}
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return dialed(t, port), port
}

func dialed(t *testing.T, port *agentlinktest.Port) *scripted {
	t.Helper()
	host, err := port.Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { anyway(host.Close()) })
	return &scripted{t: t, port: host, link: &link{in: newFrameReader(host, -1), out: newFrameWriter(host)}}
}

func (s *scripted) raw(b []byte) {
	s.t.Helper()
	if _, err := s.port.Write(b); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scripted) tell(k kind, m proto.Message) {
	s.t.Helper()
	if err := s.link.tell(k, m); err != nil {
		s.t.Fatal(err)
	}
}

// next returns the next frame, copied.
func (s *scripted) next() frame {
	s.t.Helper()
	fr, err := s.link.in.next()
	if err != nil {
		s.t.Fatal(err)
	}
	return frame{fr.kind, bytes.Clone(fr.payload)}
}

// hello reads a Hello.
func (s *scripted) hello() *agentv1.Hello {
	s.t.Helper()
	m, ok := hello(s.next())
	if !ok {
		s.t.Fatal("no Hello")
	}
	return m
}

func welcomeTo(h *agentv1.Hello) *agentv1.Welcome {
	return &agentv1.Welcome{Nonce: h.GetNonce(), Version: 1, BootId: "boot"}
}

// data makes Data frames for a session.
func (s *scripted) data(nonce []byte) *conn {
	return &conn{link: s.link, tag: nonce[:tagLen], watch: func([]byte) error { return nil }, other: func(frame) error { return nil }}
}

// muxBytes is a header of yamux.
func muxBytes(kind byte, flags uint16, stream, length uint32) []byte {
	b := []byte{0, kind}
	b = binary.BigEndian.AppendUint16(b, flags)
	b = binary.BigEndian.AppendUint32(b, stream)
	return binary.BigEndian.AppendUint32(b, length)
}

func (s *scripted) send(c *conn, b []byte) {
	s.t.Helper()
	if _, err := c.Write(b); err != nil {
		s.t.Fatal(err)
	}
}

// begun is a session with a guest that is played.
func begun(t *testing.T) (*Session, *scripted, *conn) {
	t.Helper()
	host, guest := guestOf(t)
	nonces := make(chan []byte, 1)
	go func() {
		h := guest.hello()
		guest.tell(kindWelcome, welcomeTo(h))
		nonces <- h.GetNonce()
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	s, err := Connect(ctx, host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { anyway(s.Close()) })
	c := guest.data(<-nonces)
	return s, guest, c
}

// drained has somebody read what the host sends.
func (s *scripted) drained() {
	go func() {
		for {
			if _, err := s.link.in.next(); err != nil {
				return
			}
		}
	}()
}

// over waits for a session's end.
func over(t *testing.T, s *Session) error {
	t.Helper()
	select {
	case <-s.Done():
		return s.Err()
	case <-time.After(20 * time.Second):
		t.Fatal("the session goes on")
		return nil
	}
}

// anyway drops what a test does not depend on: what is closed twice, or written to who has gone.
func anyway(...any) {}
