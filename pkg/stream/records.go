// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"bytes"
	"fmt"
	"time"

	"github.com/vmlet/vmlet/pkg/agentlink/record"
	"github.com/vmlet/vmlet/pkg/crilog"
)

// longestRecord is more than any record takes in a spool.
const longestRecord = record.MaxPayload + record.MaxPayload/8

// scanner takes a spool of records apart. What is in it comes from a guest, which may have
// written anything.
type scanner struct{ decoder record.Decoder }

// next looks at what buf begins with: zeros, which mean nothing, and then n bytes. These are
// a record, or broken: what no agent has written. n is 0 when buf does not hold the whole.
//
//nolint:revive // four results that belong together
func (s *scanner) next(buf []byte) (r record.Record, zeros, n int, broken bool) {
	for zeros < len(buf) && buf[zeros] == 0 {
		zeros++
	}
	r, n, err := s.decoder.Next(buf[zeros:])
	// A line feed within would be a line of the log that this process never wrote.
	broken = err != nil || n > 0 && bytes.IndexByte(r.Payload, '\n') >= 0
	return r, zeros, n, broken
}

// scan calls say for what stands in raw: a record, or how many bytes are none. It returns
// how many bytes were said, when say wants no more or the end of raw is not a whole record.
// last says that it never will be.
func (s *scanner) scan(raw []byte, last bool, say func(r record.Record, broken int) (more bool)) (took int) {
	broken := 0
	for {
		r, zeros, n, bad := s.next(raw[took:])
		took += zeros
		if n == 0 && last && took < len(raw) {
			n, bad = len(raw)-took, true
		}
		if bad {
			broken += n
			took += n
			continue
		}
		if broken > 0 && !say(record.Record{}, broken) || n == 0 {
			return took
		}
		broken = 0
		took += n
		if !say(r, 0) {
			return took
		}
	}
}

// encodeRecords turns records into log entries, one each, as encode does with lines.
func (s *scanner) encodeRecords(dst, raw []byte, at time.Time, limit int, r rules) batch {
	b := batch{entries: dst[:0], mid: r.mid, midErr: r.midErr}
	b.took = s.scan(raw, r.last, func(rec record.Record, broken int) bool {
		if broken > 0 {
			b.append(at, crilog.Entry{Stream: crilog.Stderr, Payload: brokenLine(broken)})
		} else {
			b.append(at, entryOf(rec))
		}
		return len(b.entries) < limit
	})
	if r.last && b.took == len(raw) { // lines that go on are ended: nothing will follow
		for _, stream := range []string{crilog.Stdout, crilog.Stderr} {
			if stream == crilog.Stdout && b.mid || stream == crilog.Stderr && b.midErr {
				b.append(at, crilog.Entry{Stream: stream})
			}
		}
	}
	return b
}

func (b *batch) append(at time.Time, e crilog.Entry) {
	e.Time = at
	b.entries = crilog.Append(b.entries, e)
	if e.Stream == crilog.Stderr {
		b.midErr = e.Partial
	} else {
		b.mid = e.Partial
	}
}

// entryOf is a record as it is logged: carriage returns before a line's end are dropped.
func entryOf(r record.Record) crilog.Entry {
	e := crilog.Entry{Stream: crilog.Stdout, Partial: r.Flags&record.Partial != 0, Payload: r.Payload}
	if r.Flags&record.Stderr != 0 {
		e.Stream = crilog.Stderr
	}
	if r.Flags.Newline() {
		e.Payload = bytes.TrimRight(e.Payload, "\r")
	}
	return e
}

// brokenLine is what is said in the place of what is no record.
func brokenLine(n int) []byte {
	return fmt.Appendf(nil, "[vmlet: %d bytes of output were not readable here]", n)
}
