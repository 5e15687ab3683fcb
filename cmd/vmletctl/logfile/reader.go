// SPDX-License-Identifier: Apache-2.0

package logfile

import (
	"bytes"
	"errors"
	"io"
	"os"
)

// reader reads one log file onwards.
type reader struct {
	file *os.File
	at   int64  // how far it was read
	torn []byte // the last entry's beginning, as long as its LF is not there
	to   *sink
}

// openAt opens the file before its last lines, or at its beginning if tail is negative.
func openAt(path string, tail int, to *sink) (*reader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	r := &reader{file: f, to: to}
	if tail >= 0 {
		if err := r.seekTail(tail); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return r, nil
}

func (r *reader) seekTail(tail int) error {
	info, err := r.file.Stat()
	if err != nil {
		return err
	}
	r.at, err = tailOffset(r.file, info.Size(), tail)
	return err
}

// drain passes on all entries that are there and were not read yet.
func (r *reader) drain() error {
	if err := r.noticeCut(); err != nil {
		return err
	}
	var block [32 << 10]byte
	for {
		n, err := r.file.ReadAt(block[:], r.at)
		r.at += int64(n)
		if err := r.take(block[:n]); err != nil {
			return err
		}
		if errors.Is(err, io.EOF) {
			return r.to.flush()
		}
		if err != nil {
			return err
		}
	}
}

// noticeCut begins anew with a file that was emptied, as some log rotators do.
func (r *reader) noticeCut() error {
	info, err := r.file.Stat()
	if err == nil && info.Size() < r.at {
		r.at, r.torn = 0, nil
	}
	return err
}

func (r *reader) take(p []byte) error {
	for {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			r.torn = append(r.torn, p...)
			return nil
		}
		line := p[:i+1]
		if len(r.torn) > 0 {
			line = append(r.torn, line...)
		}
		if err := r.to.line(line); err != nil {
			return err
		}
		r.torn, p = r.torn[:0], p[i+1:]
	}
}

// replaced reports whether another file lies at path now.
func (r *reader) replaced(path string) (bool, error) {
	now, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil // renamed, and not made anew yet
	}
	if err != nil {
		return false, err
	}
	mine, err := r.file.Stat()
	return err == nil && !os.SameFile(now, mine), err
}
