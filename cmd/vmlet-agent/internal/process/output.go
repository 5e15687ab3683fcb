// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"io"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// maxDrain is more than a pipe holds: what comes after it was written later.
const maxDrain = 1 << 20

// Output is the agent's end of a standard output or error. Reads end with io.EOF when nobody
// can write to it any more, or, once Finish was called, when all is read that was there: what
// a process left running in the background may hold it for ever.
type Output struct {
	file     *os.File
	finished atomic.Bool
	drained  int
}

// Finish lets the reader come to the end of what has been written. For any goroutine.
func (o *Output) Finish() {
	o.finished.Store(true)
	_ = o.file.SetReadDeadline(time.Unix(1, 0)) //nolint:errcheck // a file that is closed already has no readers
}

// Read implements io.Reader; it fails with os.ErrDeadlineExceeded as SetReadDeadline asked.
func (o *Output) Read(b []byte) (int, error) {
	n, err := o.file.Read(b)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) && o.finished.Load():
		return o.drain(b)
	case errors.Is(err, unix.EIO):
		return n, io.EOF // how a terminal ends
	}
	return n, err
}

// SetReadDeadline bounds how long reads wait, the zero time for ever. For the reader.
func (o *Output) SetReadDeadline(t time.Time) error {
	if o.finished.Load() {
		return nil
	}
	err := o.file.SetReadDeadline(t)
	if o.finished.Load() {
		o.Finish() // its deadline came first, and was just overwritten
	}
	return err
}

// drain reads without waiting.
func (o *Output) drain(b []byte) (n int, err error) {
	if o.drained > maxDrain {
		return 0, io.EOF
	}
	conn, err := o.file.SyscallConn()
	if err != nil {
		return 0, err
	}
	if err := o.file.SetReadDeadline(time.Time{}); err != nil {
		return 0, err
	}
	cerr := conn.Read(func(fd uintptr) bool {
		n, err = ignoringEINTR(func() (int, error) { return unix.Read(int(fd), b) })
		return true
	})
	o.Finish()
	if cerr != nil || err != nil || n <= 0 {
		return 0, io.EOF // empty, or at its end
	}
	o.drained += n
	return n, nil
}

// Close closes the agent's end.
func (o *Output) Close() error { return o.file.Close() }

func ignoringEINTR(f func() (int, error)) (n int, err error) {
	for {
		if n, err = f(); !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
