// SPDX-License-Identifier: Apache-2.0

package agentlink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/libp2p/go-yamux/v5"
)

// errProtocol is a guest that does what no agent does.
var errProtocol = errors.New("the guest breaks the protocol")

// errRestarted is an agent that has begun anew in mid-session.
var errRestarted = errors.New("vmlet-agent began anew")

// Session is the host's side of one session. It is safe for concurrent use.
type Session struct {
	peer  Peer
	mux   *yamux.Session
	slots chan struct{}

	mu      sync.Mutex
	pieces  map[uint32]int // unread frames per open stream, more or less
	unread  int            // all of them
	failure error
}

// Peer returns what the agent said of itself.
func (s *Session) Peer() Peer { return s.peer }

// Done is closed when the session is over.
func (s *Session) Done() <-chan struct{} { return s.mux.CloseChan() }

// Err tells why the session is over, once Done is closed.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure != nil {
		return s.failure
	}
	return errors.New("the session was closed")
}

// Close ends the session, its calls and its connection.
func (s *Session) Close() error { return s.mux.Close() }

// Open begins a call, bound to ctx. It waits while there are as many calls as one session
// may have. Unavailable when the session is over.
func (s *Session) Open(ctx context.Context) (*Stream, error) {
	select {
	case s.slots <- struct{}{}:
	case <-s.Done():
		return nil, fmt.Errorf("%w: %w", s.Err(), errdefs.ErrUnavailable)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	mux, err := s.mux.OpenStream(ctx)
	if err != nil {
		<-s.slots
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("open a stream to vmlet-agent: %w: %w", err, errdefs.ErrUnavailable)
	}
	s.mu.Lock()
	s.pieces[mux.StreamID()] = 0
	s.mu.Unlock()
	in := countedReader{mux, func() { s.read(mux.StreamID()) }}
	return newStream(ctx, mux, in, func() error {
		s.forget(mux.StreamID())
		<-s.slots
		// It may wait for the guest to take the frame, or for the session's end: that is
		// nothing to keep a caller for.
		go mux.Reset() //nolint:errcheck // it returns none
		return nil
	}), nil
}

// start makes a session of a link on which the agent has said its Welcome.
func start(port net.Conn, l *link, nonce []byte, peer Peer) (*Session, error) {
	s := &Session{peer: peer, slots: make(chan struct{}, hostStreams), pieces: map[uint32]int{}}
	watcher := &muxWatcher{see: s.see}
	c := &conn{
		link: l, tag: nonce[:tagLen], watch: watcher.watch,
		close: port.Close, deadline: port.SetWriteDeadline, failed: s.fail,
		other: func(fr frame) error {
			if fr.kind == kindReady {
				return errRestarted
			}
			return l.in.drop(len(fr.payload) + 1)
		},
	}
	mux, err := yamux.Client(c, muxConfig(0), nil)
	if err != nil {
		return nil, err
	}
	s.mux = mux
	return s, nil
}

// fail records why the session ends.
func (s *Session) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure == nil {
		s.failure = err
	}
}

// maxPieces is how many frames a session may have that nobody has read. Each costs some 40
// bytes beside what it carries, so a guest that sent single bytes would take up many times
// its windows. An agent sends more than four at a time, so this is several stalled streams
// full of the least that it sends.
const maxPieces = window

// see watches what the guest sends.
func (s *Session) see(f muxFrame) error {
	switch {
	case f.flags&flagSYN != 0 && f.kind <= muxWindow:
		return fmt.Errorf("%w: it opens a stream", errProtocol)
	case f.kind != muxData:
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, open := s.pieces[f.stream]; !open {
		return nil
	}
	s.pieces[f.stream]++
	if s.unread++; s.unread > maxPieces {
		return fmt.Errorf("%w: it sends crumbs", errProtocol)
	}
	return nil
}

// read counts a read of a stream, which takes from one frame at a time.
func (s *Session) read(id uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pieces[id] > 0 {
		s.pieces[id]--
		s.unread--
	}
}

// countedReader tells of each read.
type countedReader struct {
	io.Reader
	count func()
}

// Read implements io.Reader.
func (r countedReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if n > 0 {
		r.count()
	}
	return n, err
}

// forget takes a stream out of the count.
func (s *Session) forget(id uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unread -= s.pieces[id]
	delete(s.pieces, id)
}
