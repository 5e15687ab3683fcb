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
	at   int64 // behind the last entry that was passed on
	buf  []byte
	to   *sink
}

// readSize is how much is read at a time, in bytes, unless one entry takes more.
const readSize = 64 << 10

// openAt opens the file before its last lines, or at its beginning if tail is negative.
func openAt(path string, tail int, to *sink) (*reader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	r := &reader{file: f, buf: make([]byte, readSize), to: to}
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

// drain passes on all entries that are there and were not read yet. The beginning of one
// is left for the next time: after a crash of its writer it is written anew.
func (r *reader) drain() error {
	if err := r.noticeCut(); err != nil {
		return err
	}
	for {
		n, err := r.file.ReadAt(r.buf, r.at)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		whole := bytes.LastIndexByte(r.buf[:n], '\n') + 1
		for line := range bytes.Lines(r.buf[:whole]) {
			if err := r.to.line(line); err != nil {
				return err
			}
		}
		r.at += int64(whole)
		switch {
		case n < len(r.buf):
			return r.to.flush()
		case whole == 0:
			r.buf = make([]byte, 2*len(r.buf))
		}
	}
}

// noticeCut begins anew with a file that was emptied, as some log rotators do.
func (r *reader) noticeCut() error {
	info, err := r.file.Stat()
	if err == nil && info.Size() < r.at {
		r.at = 0
	}
	return err
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
