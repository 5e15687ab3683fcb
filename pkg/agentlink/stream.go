// SPDX-License-Identifier: Apache-2.0

package agentlink

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/libp2p/go-yamux/v5"
	"google.golang.org/protobuf/proto"
)

const (
	// MaxMessage is the most bytes of one message.
	MaxMessage = 1 << 20
	// MaxPiece is the most bytes of data that one message of a series carries: output, input,
	// a part of a file. So series that share a session take turns, and a piece with all that
	// is around it is one frame.
	MaxPiece = 31 << 10
	// readAhead is how much of a stream is taken out of its window at once.
	readAhead = 4 << 10
)

// Stream is one call: messages both ways and, for some calls, plain bytes after them. One
// goroutine may read while others send. Every method ends with the context that the stream
// was made for, and then returns its error; with the session it ends with Unavailable.
type Stream struct {
	mux    *yamux.Stream
	in     *bufio.Reader
	over   func() error // why nothing goes on, nil while it does
	finish func() error
	// session is closed with the session; nil on the host's side.
	session <-chan struct{}
	// limit is the most bytes of a message that is received.
	limit int

	mu  sync.Mutex // one message is written at a time
	out []byte
}

// past is a deadline that is over.
var past = time.Unix(1, 0)

// newStream binds a stream of yamux to ctx; in is what it reads from, finish what Close does.
func newStream(ctx context.Context, mux *yamux.Stream, in io.Reader, finish func() error) *Stream {
	unbind := context.AfterFunc(ctx, func() {
		//nolint:errcheck // it returns none
		_ = mux.SetDeadline(past)
	})
	return &Stream{
		mux: mux, in: bufio.NewReaderSize(in, readAhead), limit: MaxMessage, over: ctx.Err,
		finish: sync.OnceValue(func() error { unbind(); return finish() }),
	}
}

// Limit sets the most bytes of a message that Receive takes, MaxMessage or less.
func (s *Stream) Limit(n int) { s.limit = min(n, MaxMessage) }

// SessionDone is closed when the session is over: what outlives the call, but not the
// session, ends with it. For the agent's side.
func (s *Stream) SessionDone() <-chan struct{} { return s.session }

// Send writes one message, whole. Messages of several goroutines never mix.
func (s *Stream) Send(m proto.Message) error {
	size := proto.Size(m)
	if size > MaxMessage {
		return fmt.Errorf("message of %d bytes, at most %d: %w", size, MaxMessage, errdefs.ErrInvalidArgument)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out = binary.AppendUvarint(s.out[:0], uint64(size))
	var err error
	if s.out, err = (proto.MarshalOptions{UseCachedSize: true}).MarshalAppend(s.out, m); err != nil {
		return err
	}
	_, err = s.mux.Write(s.out)
	if cap(s.out) > 2*MaxPiece {
		s.out = nil // large messages are rare, streams may live long
	}
	return s.explain(err)
}

// Receive reads the next message into m: io.EOF where the other side has closed its half
// between two messages.
func (s *Stream) Receive(m proto.Message) error {
	size, err := binary.ReadUvarint(s.in)
	if err != nil {
		return s.explain(err)
	}
	if size > uint64(s.limit) {
		return fmt.Errorf("message of %d bytes, at most %d: %w", size, s.limit, errdefs.ErrInvalidArgument)
	}
	buffer, ok := buffers.Get().(*[bufferLen]byte)
	if !ok {
		buffer = new([bufferLen]byte)
	}
	defer buffers.Put(buffer)
	body, err := s.body(buffer[:0], int(size))
	if err != nil {
		return s.explain(err)
	}
	if err := proto.Unmarshal(body, m); err != nil {
		return fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	return nil
}

// buffers are for messages on their way, most of which are no larger.
var buffers sync.Pool

const bufferLen = 32 << 10

// body reads size bytes into a buffer, or into one that grows with what has arrived: size is
// but the other side's word.
func (s *Stream) body(body []byte, size int) ([]byte, error) {
	for len(body) < size {
		if len(body) == cap(body) {
			body = append(make([]byte, 0, min(size, 2*cap(body))), body...)
		}
		n, err := io.ReadFull(s.in, body[len(body):min(size, cap(body))])
		body = body[:len(body)+n]
		if err != nil {
			return nil, noEOF(err)
		}
	}
	return body, nil
}

// noEOF is for an end where there must be none.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Read reads plain bytes, after the messages that were received: io.EOF once the other side
// has closed its half.
func (s *Stream) Read(p []byte) (int, error) {
	n, err := s.in.Read(p)
	return n, s.explain(err)
}

// Write writes plain bytes.
func (s *Stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.mux.Write(p)
	return n, s.explain(err)
}

// CloseWrite closes this side's half: the other side reads io.EOF after what was sent.
func (s *Stream) CloseWrite() error { return s.explain(s.mux.CloseWrite()) }

// SetDeadline bounds Read and Write, by os.ErrDeadlineExceeded.
func (s *Stream) SetDeadline(t time.Time) error { return s.mux.SetDeadline(t) }

// SetReadDeadline bounds Read, by os.ErrDeadlineExceeded.
func (s *Stream) SetReadDeadline(t time.Time) error { return s.mux.SetReadDeadline(t) }

// SetWriteDeadline bounds Write, by os.ErrDeadlineExceeded.
func (s *Stream) SetWriteDeadline(t time.Time) error { return s.mux.SetWriteDeadline(t) }

// Close ends the call: in the agent after what was sent, on the host's side at once, which
// ends the context of the agent's handler.
func (s *Stream) Close() error { return s.finish() }

// explain gives the errors of a session's end their class.
func (s *Stream) explain(err error) error {
	switch {
	case err == nil, err == io.EOF: //nolint:errorlint // as readers want it: not wrapped
		return err
	case s.over() != nil:
		return s.over()
	case errors.Is(err, yamux.ErrTimeout):
		return os.ErrDeadlineExceeded
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("the other side closed the stream in mid-message: %w", errdefs.ErrUnavailable)
	}
	return fmt.Errorf("vmlet-agent's session: %w: %w", err, errdefs.ErrUnavailable)
}
