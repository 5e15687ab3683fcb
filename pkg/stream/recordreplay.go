// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"bufio"
	"bytes"
	"fmt"
	"io"

	"github.com/vmlet/vmlet/pkg/crilog"
)

// recordReplay reads a spool of records again from a position, as it would be logged.
type recordReplay struct {
	scanner

	r  *bufio.Reader
	at int64 // the position in the spool
}

func newRecordReplay(spool io.ReaderAt, from, to int64) *recordReplay {
	return &recordReplay{r: bufio.NewReaderSize(io.NewSectionReader(spool, from, to-from), longestRecord), at: from}
}

// follow implements replayer.
func (s *recordReplay) follow(p *position, e crilog.Entry) (known bool, err error) {
	ahead, err := s.ahead()
	if err != nil {
		return false, err
	}
	rec, _, n, broken := s.next(ahead)
	switch {
	case n == 0 && len(ahead) == 0: // all that is left to say is that no line goes on
		known = !e.Partial && len(e.Payload) == 0 && p.isMid(e.Stream)
	case n == 0 || broken:
		known, err = s.followBroken(e)
	default:
		want := entryOf(rec)
		known = e.Stream == want.Stream && e.Partial == want.Partial && bytes.Equal(e.Payload, want.Payload)
		if known {
			err = s.skip(n)
		}
	}
	if known && err == nil {
		p.Spool = s.at
		p.setMid(e.Stream, e.Partial)
	}
	return known, err
}

// followBroken goes behind as many bytes that are no records as the entry speaks of.
func (s *recordReplay) followBroken(e crilog.Entry) (known bool, err error) {
	var said int
	if _, err := fmt.Sscanf(string(e.Payload), "[vmlet: %d bytes", &said); err != nil ||
		e.Stream != crilog.Stderr || e.Partial || !bytes.Equal(e.Payload, brokenLine(said)) {
		return false, nil //nolint:nilerr // not an entry of that kind
	}
	for said > 0 {
		ahead, err := s.ahead()
		if err != nil {
			return false, err
		}
		_, _, n, broken := s.next(ahead)
		if n == 0 {
			n, broken = len(ahead), true
		}
		if n == 0 || !broken {
			return false, nil
		}
		if err := s.skip(n); err != nil {
			return false, err
		}
		said -= n
	}
	return said == 0, nil
}

// ahead is what comes next and is not zero: a whole record, or all that there is.
func (s *recordReplay) ahead() ([]byte, error) {
	for {
		b, err := s.r.Peek(longestRecord)
		if err != nil && err != io.EOF {
			return nil, err
		}
		zeros := len(b) - len(bytes.TrimLeft(b, "\x00"))
		if zeros == 0 {
			return b, nil
		}
		if err := s.skip(zeros); err != nil {
			return nil, err
		}
	}
}

func (s *recordReplay) skip(n int) error {
	_, err := s.r.Discard(n)
	s.at += int64(n)
	return err
}
