// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"github.com/vmlet/vmlet/pkg/crilog"
	"github.com/vmlet/vmlet/pkg/vm"
)

// longestEntry is more than any entry of ours has.
const longestEntry = MaxPayload + 1024

// resync finds out what was written to the log after p was saved, and returns the
// position behind it. at and torn of the log are set accordingly. What it finds there
// that is not from the spool is left alone: the log then goes on behind it.
func resync(l *logFile, spool io.ReaderAt, spoolSize int64, format vm.ConsoleFormat, p position) (position, error) {
	info, err := l.f.Stat()
	if err != nil {
		return p, err
	}
	size := info.Size()
	l.at, l.torn = min(p.Log, size), 0
	entries := bufio.NewReaderSize(io.NewSectionReader(l.f, l.at, size-l.at), longestEntry)
	var spooled replayer = newReplay(spool, p.Spool, spoolSize)
	if format == vm.ConsoleRecords {
		spooled = newRecordReplay(spool, p.Spool, spoolSize)
	}
	for {
		line, err := entries.ReadSlice('\n')
		known := false
		if err == nil {
			known, err = p.advance(line[:len(line)-1], format, spooled)
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

// replayer reads a spool again. follow moves p behind an entry of the log, if the spool goes
// on with what it says. Nothing can be asked of it after an entry that was not known.
type replayer interface {
	follow(p *position, e crilog.Entry) (known bool, err error)
}

// advance moves p behind an entry of the log, if that is what comes next.
func (p *position) advance(line []byte, format vm.ConsoleFormat, spooled replayer) (known bool, err error) {
	e, err := crilog.Parse(line)
	if err != nil {
		return false, nil //nolint:nilerr // not an entry, so not one of ours
	}
	if p.Lost > 0 {
		known = p.advanceLoss(e, format)
	} else if known, err = spooled.follow(p, e); err != nil {
		return false, err
	}
	if known && e.Time.After(p.Time) {
		p.Time = e.Time
	}
	return known, nil
}

// advanceLoss is advance for the entries of reportLoss.
func (p *position) advanceLoss(e crilog.Entry, format vm.ConsoleFormat) (known bool) {
	loss := lossEntries(format, *p)
	if e.Partial || e.Stream != loss[0].Stream || !bytes.Equal(e.Payload, loss[0].Payload) {
		return false
	}
	if len(loss) == 1 {
		p.Lost = 0
	}
	p.setMid(e.Stream, false)
	return true
}
