// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"bufio"
	"errors"
	"io"

	"github.com/vmlet/vmlet/pkg/crilog"
)

// replay reads a spool again from a position, as it would be logged: without the
// carriage returns before a line's end, and with one for several elsewhere.
type replay struct {
	r  *bufio.Reader
	at int64 // the position in the spool
}

func newReplay(spool io.ReaderAt, from, to int64) *replay {
	return &replay{r: bufio.NewReader(io.NewSectionReader(spool, from, to-from)), at: from}
}

// next returns the next byte, or io.EOF.
func (s *replay) next() (byte, error) {
	b, err := s.r.ReadByte()
	if err != nil {
		return 0, err
	}
	s.at++
	for b == '\r' {
		following, err := s.r.ReadByte()
		switch {
		case err != nil:
			return 0, err
		case following == '\r' || following == '\n':
			s.at++
			b = following
		default:
			return b, s.r.UnreadByte()
		}
	}
	return b, nil
}

// follow implements replayer.
func (s *replay) follow(p *position, e crilog.Entry) (known bool, err error) {
	end, known, err := s.match(e.Payload, e.Partial)
	if err == nil && known && e.Stream == crilog.Stdout {
		p.Spool, p.Mid = end, e.Partial
		return true, nil
	}
	return false, err
}

// match tells whether the spool goes on with what an entry says, and where it ends in
// the spool then. An entry that is not partial may also end where the spool ends.
func (s *replay) match(payload []byte, partial bool) (end int64, ok bool, err error) {
	for _, want := range payload {
		got, err := s.next()
		if err != nil {
			return 0, false, unlessEOF(err)
		}
		if got != want {
			return 0, false, nil
		}
	}
	if partial {
		return s.at, true, nil
	}
	got, err := s.next()
	if err != nil {
		return s.at, errors.Is(err, io.EOF), unlessEOF(err)
	}
	return s.at, got == '\n', nil
}

func unlessEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
