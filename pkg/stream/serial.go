// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/pkg/vm"
)

// SubscribeSerial implements lifecycle.ConsoleStreams.
func (cs *Consoles) SubscribeSerial(ctx context.Context, containerID string, replay int64) (deliver func(ctx context.Context, output io.Writer) error, err error) {
	f, unlock, err := cs.lockFollowed(ctx, containerID, vm.ConsoleRaw)
	if err != nil {
		return nil, err
	}
	defer unlock()
	hear, err := f.join(func(f *followed) (int64, error) { return f.recent(replay) })
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, output io.Writer) error { return hear(ctx, output, nil) }, nil
}

// recent is where in the spool the last n bytes begin, as far as they are still there: with the line that begins after
// that, unless it takes long to come.
func (f *followed) recent(n int64) (int64, error) {
	size, err := f.spoolSize()
	if err != nil || n <= 0 {
		return size, err
	}
	// What is further behind, a client skips.
	at := max(size-min(n, f.limits.clientLag/2), f.oldest(size))
	if at <= 0 {
		return 0, nil
	}
	b := make([]byte, min(clientRead, size-at+1))
	read, err := f.spool.ReadAt(b, at-1)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("read the spool: %w", err)
	}
	if end := bytes.IndexByte(b[:read], '\n'); end >= 0 {
		return at + int64(end), nil
	}
	return at, nil
}

// oldest is where the first byte of the spool is that was not punched out.
func (f *followed) oldest(size int64) int64 {
	at, err := unix.Seek(int(f.spool.Fd()), 0, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO): // all of it was
		return size
	case err != nil: // a file system that does not tell
		return min(f.punched, size)
	}
	return at
}
