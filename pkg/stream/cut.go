// SPDX-License-Identifier: Apache-2.0

package stream

import "bytes"

// MaxPayload is the length in bytes above which a line is cut into several entries.
// It is containerd's default (max_container_log_line_size) and what kubelet expects.
const MaxPayload = 16 * 1024

// ending is why a piece of console output ends where it does.
type ending int

const (
	// unended: the output so far ends before the line does.
	unended ending = iota
	// split: the line goes on, but the piece is MaxPayload long.
	split
	// newline: the line ends here.
	newline
)

// cut appends to dst the payload of the piece of a line that raw begins with, and
// returns how many bytes of raw it took. Of an unended piece, the carriage return that
// it may end in is not taken: what follows decides what it means.
func cut(dst, raw []byte) (payload []byte, took int, end ending) {
	room, i := MaxPayload, 0
	for {
		n := indexBreak(raw[i:], room+1)
		if n > room {
			return append(dst, raw[i:i+room]...), i + room, split
		}
		dst = append(dst, raw[i:i+n]...)
		room -= n
		i += n
		if i == len(raw) {
			return dst, i, unended
		}
		r := i // behind the carriage returns, if there are any
		for r < len(raw) && raw[r] == '\r' {
			r++
		}
		switch {
		case r == len(raw):
			return dst, r - 1, unended
		case raw[r] == '\n':
			return dst, r + 1, newline
		case room == 0:
			return dst, i, split
		}
		dst = append(dst, '\r')
		room--
		i = r
	}
}

// indexBreak returns the index of the first CR or LF among the first limit bytes, or
// how many there are.
func indexBreak(b []byte, limit int) int {
	b = b[:min(limit, len(b))]
	if lf := bytes.IndexByte(b, '\n'); lf >= 0 {
		b = b[:lf]
	}
	if cr := bytes.IndexByte(b, '\r'); cr >= 0 {
		return cr
	}
	return len(b)
}
