// SPDX-License-Identifier: Apache-2.0

// Package record is what a command's output looks like on its way from the guest's agent to
// vmlet: on the port org.vmlet.output.0, and so in the file that QEMU writes.
//
//	record  = COBS( flags payload ) 0x00
//	flags   = one byte: Stderr | Partial | Unterminated
//	payload = at most MaxPayload bytes
//
// One record is one entry of a container's log. It is pure: bytes in, bytes out.
package record

import (
	"bytes"
	"errors"

	"github.com/vmlet/vmlet/pkg/agentlink/cobs"
)

// MaxPayload is the most bytes of output in one record. With it a log entry stays below what
// readers of container logs expect of one.
const MaxPayload = 16 << 10

// maxEncoded is the longest a record can be, with the zero that ends it.
var maxEncoded = cobs.MaxLen(1+MaxPayload) + 1

// ErrMalformed is a stretch of bytes that no agent of ours has written.
var ErrMalformed = errors.New("malformed output record")

// Flags say what a payload is of its stream. Without Partial and Unterminated it is the end
// of a line, or a whole one, whose newline is left out.
type Flags byte

// The flags.
const (
	// Stderr: it was written to standard error, not standard output.
	Stderr Flags = 1 << iota
	// Partial: the line goes on in the stream's next record.
	Partial
	// Unterminated: the stream ended here, without a newline.
	Unterminated

	known = Stderr | Partial | Unterminated
)

// Newline says whether a newline followed the payload in the stream.
func (f Flags) Newline() bool { return f&(Partial|Unterminated) == 0 }

// Record is a piece of output.
type Record struct {
	Flags   Flags
	Payload []byte
}

// Append appends a record to dst. A payload that is longer than MaxPayload becomes several,
// all but the last Partial.
func Append(dst []byte, flags Flags, payload []byte) []byte {
	for len(payload) > MaxPayload {
		dst = appendOne(dst, flags&Stderr|Partial, payload[:MaxPayload])
		payload = payload[MaxPayload:]
	}
	return appendOne(dst, flags, payload)
}

func appendOne(dst []byte, flags Flags, payload []byte) []byte {
	// What is encoded stands in dst for a moment, before its encoding: no buffer is needed.
	start := len(dst)
	dst = append(append(dst, byte(flags)), payload...)
	plain := dst[start:]
	dst = cobs.Append(dst, plain)
	n := copy(dst[start:], dst[start+len(plain):])
	return append(dst[:start+n], 0)
}

// Decoder takes records apart. Its zero value is ready. For one goroutine at a time.
type Decoder struct {
	plain []byte
}

// Next decodes the record at the beginning of buf. n is how many bytes of buf it was, the
// zeros before it included; 0 means that buf does not hold the whole of it yet. After
// ErrMalformed decoding goes on behind the n bytes. buf is left as it is; the payload is
// valid until the next call.
func (d *Decoder) Next(buf []byte) (r Record, n int, err error) {
	// A lone zero is how an agent ends what an older one may have left unfinished.
	start := 0
	for start < len(buf) && buf[start] == 0 {
		start++
	}
	frame := buf[start:]
	end := bytes.IndexByte(frame[:min(len(frame), maxEncoded)], 0)
	switch {
	case end < 0 && len(frame) >= maxEncoded:
		return Record{}, start + maxEncoded, ErrMalformed
	case end < 0:
		return Record{}, 0, nil
	}
	n = start + end + 1
	d.plain, err = cobs.Decode(d.plain[:0], frame[:end])
	if err != nil || len(d.plain) == 0 || Flags(d.plain[0])&^known != 0 {
		return Record{}, n, ErrMalformed
	}
	return Record{Flags: Flags(d.plain[0]), Payload: d.plain[1:]}, n, nil
}
