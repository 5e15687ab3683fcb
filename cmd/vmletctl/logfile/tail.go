// SPDX-License-Identifier: Apache-2.0

package logfile

import (
	"bytes"
	"errors"
	"io"

	"github.com/vmlet/vmlet/pkg/crilog"
)

// headSize is more than the time, the stream and the tag of an entry take.
const headSize = 64

// tailOffset is where the last n lines of a file begin; 0 if it has no more. It reads
// backwards, so that the end of a large file is cheap to find. A line is all entries up to
// one that is not partial; a beginning without an end is a line too.
func tailOffset(f io.ReaderAt, size int64, n int) (int64, error) {
	if n == 0 {
		return size, nil
	}
	for end := size; end > 0; {
		begin, err := entryBegin(f, end)
		if err != nil {
			return 0, err
		}
		if end < size {
			whole, err := endsLine(f, begin, end)
			if err != nil {
				return 0, err
			}
			if whole {
				n--
			}
			if n == 0 {
				return end, nil
			}
		}
		end = begin
	}
	return 0, nil
}

// entryBegin is where the entry begins that ends at end, LF included.
func entryBegin(f io.ReaderAt, end int64) (int64, error) {
	var block [4096]byte
	for at := end - 1; at > 0; { // the last byte is the entry's own LF, or it has none yet
		from := max(0, at-int64(len(block)))
		part := block[:at-from]
		if err := readAt(f, part, from); err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(part, '\n'); i >= 0 {
			return from + int64(i) + 1, nil
		}
		at = from
	}
	return 0, nil
}

// endsLine reports whether the entry between begin and end is not partial.
func endsLine(f io.ReaderAt, begin, end int64) (bool, error) {
	var head [headSize]byte
	part := head[:min(end-begin, headSize)]
	if err := readAt(f, part, begin); err != nil {
		return false, err
	}
	if e, err := crilog.Parse(part); err == nil {
		return !e.Partial, nil
	}
	return true, nil // what is no entry is a line of its own
}

// readAt fills p. A file that became shorter in the meantime is io.ErrUnexpectedEOF.
func readAt(f io.ReaderAt, p []byte, at int64) error {
	n, err := f.ReadAt(p, at)
	if n == len(p) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
