// SPDX-License-Identifier: Apache-2.0

package output

import (
	"bytes"
	"time"

	"github.com/vmlet/vmlet/pkg/agentlink/record"
)

// patience is how long the beginning of a line waits for the rest of it: a prompt is to be
// seen while the command waits for the answer.
const patience = 50 * time.Millisecond

// lines makes records of a stream.
type lines struct {
	stream record.Flags
	now    func() time.Time
	// rest is the line whose end has not come, as far as it has not been sent.
	rest []byte
	// due is when rest is to be sent, zero without.
	due time.Time
	// open: a part of the line was sent.
	open bool
	// out is the records that are to be written.
	out []byte
}

// add takes what came of the stream.
func (l *lines) add(b []byte) {
	for {
		end := bytes.IndexByte(b, '\n')
		if end < 0 {
			break
		}
		l.send(0, b[:end])
		b = b[end+1:]
	}
	if len(b) == 0 {
		return
	}
	if len(l.rest)+len(b) >= record.MaxPayload {
		l.send(record.Partial, b)
		return
	}
	l.rest = append(l.rest, b...)
	if l.due.IsZero() {
		l.due = l.now().Add(patience)
	}
}

// flush sends the beginning of a line as such.
func (l *lines) flush() {
	if len(l.rest) > 0 {
		l.send(record.Partial, nil)
	}
}

// end sends what there is at the end of the stream. A line of which a part was sent has to
// end for its readers, if only by nothing.
func (l *lines) end() {
	if len(l.rest) > 0 || l.open {
		l.send(record.Unterminated, nil)
	}
}

// send makes a record of rest and b.
func (l *lines) send(flags record.Flags, b []byte) {
	if len(l.rest) > 0 {
		l.rest = append(l.rest, b...)
		b = l.rest
	}
	l.out = record.Append(l.out, l.stream|flags, b)
	l.rest, l.due, l.open = l.rest[:0], time.Time{}, flags&record.Partial != 0
}

// take returns the records that are to be written; they are valid until the next call of add,
// flush or end.
func (l *lines) take() []byte {
	out := l.out
	l.out = l.out[:0]
	return out
}
