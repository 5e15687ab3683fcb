// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/vmlet/vmlet/pkg/agentlink/record"
	"github.com/vmlet/vmlet/pkg/vm"
)

// speech is what a client is told next.
type speech struct {
	format  vm.ConsoleFormat
	scanner scanner
	raw     []byte
	out     []byte
	turns   []turn // to which stream which part of out belongs
	inLine  bool   // what was said last did not end a line
}

// turn is a stretch of bytes, up to an offset, of one stream.
type turn struct {
	until  int
	stderr bool
}

// free gives up the memory: clients wait most of the time.
func (s *speech) free() { s.raw, s.out, s.turns = nil, nil, nil }

func (s *speech) say(b []byte, stderr bool) {
	if len(b) == 0 {
		return
	}
	s.out = append(s.out, b...)
	s.inLine = b[len(b)-1] != '\n'
	if n := len(s.turns); n > 0 && s.turns[n-1].stderr == stderr {
		s.turns[n-1].until = len(s.out)
	} else {
		s.turns = append(s.turns, turn{len(s.out), stderr})
	}
}

// remark says something of our own, in a line of its own.
func (s *speech) remark(line []byte) {
	newline := []byte("\n")
	if s.format == vm.ConsoleRaw {
		newline = []byte("\r\n") // as on any terminal
	}
	stderr := s.format == vm.ConsoleRecords
	if s.inLine {
		s.say(newline, stderr)
	}
	s.say(append(line, newline...), stderr)
}

// speak says what stands in raw, and returns how many bytes of it were said.
func (s *speech) speak(raw []byte, last bool) (took int) {
	if s.format == vm.ConsoleRaw {
		s.say(raw, false)
		return len(raw)
	}
	return s.scanner.scan(raw, last, func(r record.Record, broken int) bool {
		if broken > 0 {
			s.remark(brokenLine(broken))
			return true
		}
		stderr := r.Flags&record.Stderr != 0
		s.say(r.Payload, stderr)
		if r.Flags.Newline() {
			s.say([]byte("\n"), stderr)
		}
		return true
	})
}

func (s *speech) writeTo(stdout, stderr io.Writer) error {
	from := 0
	for _, t := range s.turns {
		w := stdout
		if t.stderr {
			w = stderr
		}
		if w != nil {
			if _, err := w.Write(s.out[from:t.until]); err != nil {
				return err
			}
		}
		from = t.until
	}
	s.out, s.turns = s.out[:0], s.turns[:0]
	return nil
}

// rest is what there is after what was read.
type rest int

const (
	toRead  rest = iota // more in the spool
	toCome              // nothing in the spool yet
	nothing             // nor will be
)

// read has s say what comes next in the spool.
func (c *client) read(s *speech) (rest, error) {
	if s.raw == nil {
		s.raw = make([]byte, clientRead)
	}
	c.mu.Lock()
	at, skipped, ended, err := c.at, c.skipped, c.ended, c.err
	c.mu.Unlock()
	if err != nil {
		return nothing, err
	}
	n, err := c.spool.ReadAt(s.raw, at)
	if err != nil && !errors.Is(err, io.EOF) {
		return nothing, fmt.Errorf("read the spool: %w", err)
	}
	raw, atEnd, begin, inLine := s.raw[:n], err != nil, 0, s.inLine
	if skipped > 0 { // in the middle of something
		begin = bytes.IndexByte(raw, endOf(c.format)) + 1
		s.remark(fmt.Appendf(nil, "[vmlet: %d bytes were skipped here: they were not read in time]", skipped+int64(begin)))
	}
	took := begin + s.speak(raw[begin:], ended && atEnd)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at != at { // too late: what was read is skipped as well, and may be gone
		s.out, s.turns, s.inLine = s.out[:0], s.turns[:0], inLine
		return toRead, nil
	}
	c.at, c.skipped = at+int64(took), 0
	switch {
	case !atEnd:
		return toRead, nil
	case ended:
		return nothing, nil
	}
	return toCome, nil
}

// endOf is the byte that ends a line or a record in a spool.
func endOf(format vm.ConsoleFormat) byte {
	if format == vm.ConsoleRecords {
		return 0
	}
	return '\n'
}
