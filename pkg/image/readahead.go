// SPDX-License-Identifier: Apache-2.0

package image

import "io"

// A readAhead holds at most aheadChunks chunks of aheadChunk bytes.
const (
	aheadChunk  = 1 << 20
	aheadChunks = 4
)

// readAhead reads from a source in a goroutine of its own, so that receiving, unpacking
// and storing overlap. Read and WriteTo are for one goroutine.
type readAhead struct {
	filled chan chunk
	empty  chan []byte
	stop   chan struct{}
	ended  chan struct{}
	cancel func()

	rest    []byte // unread bytes of current
	current []byte
	err     error
}

type chunk struct {
	data []byte // of the buffer, what was read
	err  error  // what came after it
}

// newReadAhead starts reading. Close must be called, and calls cancel, which has to make a
// read of the source that is under way return soon.
func newReadAhead(source io.Reader, cancel func()) *readAhead {
	r := &readAhead{
		filled: make(chan chunk, aheadChunks), empty: make(chan []byte, aheadChunks),
		stop: make(chan struct{}), ended: make(chan struct{}), cancel: cancel,
	}
	for range aheadChunks {
		r.empty <- make([]byte, aheadChunk)
	}
	go r.run(source)
	return r
}

func (r *readAhead) run(source io.Reader) {
	defer close(r.ended)
	for {
		var buf []byte
		select {
		case buf = <-r.empty:
		case <-r.stop:
			return
		}
		n, err := r.fill(source, buf)
		r.filled <- chunk{buf[:n], err} // has room for all buffers there are
		if err != nil {
			return
		}
	}
}

// fill reads until buf is full, the source has ended, with whatever error, or Close was
// called.
func (r *readAhead) fill(source io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		select {
		case <-r.stop:
			return n, io.ErrClosedPipe
		default:
		}
		var more int
		more, err = source.Read(buf[n:])
		n += more
	}
	return n, err
}

// next makes rest non-empty or returns the error that ended the source.
func (r *readAhead) next() error {
	for len(r.rest) == 0 {
		if r.err != nil {
			return r.err
		}
		if r.current != nil {
			r.empty <- r.current
			r.current = nil
		}
		c := <-r.filled
		r.rest, r.current, r.err = c.data, c.data[:cap(c.data)], c.err
	}
	return nil
}

// Read implements io.Reader.
func (r *readAhead) Read(p []byte) (int, error) {
	if err := r.next(); err != nil {
		return 0, err
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// WriteTo implements io.WriterTo, without copying.
func (r *readAhead) WriteTo(w io.Writer) (written int64, err error) {
	for {
		if err := r.next(); err != nil {
			if err == io.EOF { //nolint:errorlint // an EOF that something is wrapped around is a failure
				err = nil
			}
			return written, err
		}
		n, err := w.Write(r.rest)
		written += int64(n)
		r.rest = r.rest[n:]
		if err != nil {
			return written, err
		}
	}
}

// Close ends the reading and returns when it has ended.
func (r *readAhead) Close() {
	close(r.stop)
	r.cancel()
	<-r.ended
}
