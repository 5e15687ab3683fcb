// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"github.com/vmlet/vmlet/pkg/crilog"
)

// longestEntry is more than any entry of ours has.
const longestEntry = MaxPayload + 1024

// resync finds out what was written to the log after p was saved, and returns the
// position behind it. at and torn of the log are set accordingly. What it finds there
// that is not from the spool is left alone: the log then goes on behind it.
func resync(l *logFile, spool io.ReaderAt, spoolSize int64, p position) (position, error) {
	info, err := l.f.Stat()
	if err != nil {
		return p, err
	}
	size := info.Size()
	l.at, l.torn = min(p.Log, size), 0
	entries := bufio.NewReaderSize(io.NewSectionReader(l.f, l.at, size-l.at), longestEntry)
	spooled := newReplay(spool, p.Spool, spoolSize)
	for {
		line, err := entries.ReadSlice('\n')
		known := false
		if err == nil {
			known, err = p.advance(line[:len(line)-1], spooled)
		}
		switch {
		case errors.Is(err, io.EOF):
			if len(line) > 0 {
				l.torn = size
			}
			p.Log = l.at
			return p, nil
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return p, err
		case !known:
			l.at, p.Log = size, size
			return p, nil
		}
		l.at += int64(len(line))
	}
}

// advance moves p behind an entry of the log, if that is what comes next.
func (p *position) advance(line []byte, spooled *replay) (known bool, err error) {
	e, err := crilog.Parse(line)
	if err != nil {
		return false, nil //nolint:nilerr // not an entry, so not one of ours
	}
	switch {
	case p.Lost > 0 && p.Mid && !e.Partial && len(e.Payload) == 0:
		p.Mid = false
	case p.Lost > 0 && !p.Mid && !e.Partial && bytes.Equal(e.Payload, lossLine(p.Lost)):
		p.Lost = 0
	case p.Lost > 0:
		return false, nil
	default:
		end, ok, err := spooled.match(e.Payload, e.Partial)
		if !ok {
			return false, err
		}
		p.Spool, p.Mid = end, e.Partial
	}
	if e.Time.After(p.Time) {
		p.Time = e.Time
	}
	return true, nil
}
