// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"time"

	"github.com/vmlet/vmlet/pkg/crilog"
)

// batch is what one read from a spool becomes.
type batch struct {
	entries []byte // for the log
	took    int    // bytes of the spool that are dealt with by them
	mid     bool   // the last entry of stdout is partial
	midErr  bool   // the last entry of stderr is partial
	rest    bool   // output was left: it is a line that may go on
}

// rules say what becomes of a line's beginning that has no end yet.
type rules struct {
	// mid: the last entry in the log of stdout is partial, midErr: that of stderr.
	mid, midErr bool
	// flush writes it as a partial entry.
	flush bool
	// last: there will never be more, so it is a line.
	last bool
}

// encode turns raw into log entries stamped at, using dst's memory. It stops when there
// is limit or more of them, in bytes.
func encode(dst, raw []byte, at time.Time, limit int, r rules) batch {
	head := crilog.AppendHead(make([]byte, 0, len(crilog.TimeLayout)+16), at, crilog.Stdout, true)
	tagAt := len(head) - 2
	b := batch{entries: dst[:0], mid: r.mid}
	for len(b.entries) < limit {
		begin := len(b.entries)
		out, took, end := cut(append(b.entries, head...), raw[b.took:])
		empty := len(out) == begin+len(head)
		if end == unended {
			switch {
			case r.last && (!empty || b.mid):
				end, took = newline, len(raw)-b.took
			case r.last:
				b.took = len(raw)
				return b
			case r.flush && !empty:
				end = split
			case r.flush:
				b.took += took
				return b
			default:
				b.rest = !empty
				return b
			}
		}
		b.mid = end == split
		out[begin+tagAt] = crilog.Tag(b.mid)
		out = append(out, '\n')
		b.entries = out
		b.took += took
	}
	return b
}
