// SPDX-License-Identifier: Apache-2.0

package output

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/vmlet/vmlet/pkg/agentlink/record"
)

// show writes records as one line each: letters for the flags, and the payload.
func show(t *testing.T, buf []byte) string {
	t.Helper()
	var d record.Decoder
	var b strings.Builder
	for len(buf) > 0 {
		r, n, err := d.Next(buf)
		if err != nil || n == 0 {
			t.Fatalf("%q: %v", buf, err)
		}
		buf = buf[n:]
		for i, letter := range "epu" {
			if r.Flags&(1<<i) != 0 {
				b.WriteRune(letter)
			}
		}
		b.WriteString("[" + string(r.Payload) + "]")
	}
	return b.String()
}

func TestLinesBecomeRecords(t *testing.T) {
	tests := map[string]struct {
		do   func(l *lines)
		want string
	}{
		"two lines at once":  {func(l *lines) { l.add([]byte("a\nb\n")); l.end() }, "e[a]e[b]"},
		"an empty line":      {func(l *lines) { l.add([]byte("\n")); l.end() }, "e[]"},
		"a line in pieces":   {func(l *lines) { l.add([]byte("a")); l.add([]byte("b\n")) }, "e[ab]"},
		"no newline":         {func(l *lines) { l.add([]byte("a")); l.end() }, "eu[a]"},
		"nothing":            {func(l *lines) { l.flush(); l.end() }, ""},
		"a prompt":           {func(l *lines) { l.add([]byte("? ")); l.flush() }, "ep[? ]"},
		"a prompt, answered": {func(l *lines) { l.add([]byte("? ")); l.flush(); l.add([]byte("y\nz")) }, "ep[? ]e[y]"},
		"a prompt, finished": {func(l *lines) { l.add([]byte("? ")); l.flush(); l.add([]byte("\n")) }, "ep[? ]e[]"},
		"a prompt, the end":  {func(l *lines) { l.add([]byte("? ")); l.flush(); l.end() }, "ep[? ]eu[]"},
		"flushed once":       {func(l *lines) { l.add([]byte("a")); l.flush(); l.flush() }, "ep[a]"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			l := lines{stream: record.Stderr, now: time.Now}
			tt.do(&l)
			if got := show(t, l.take()); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestALongLineIsNotHeldBack(t *testing.T) {
	l := lines{now: time.Now}
	var sent, payload int
	piece := bytes.Repeat([]byte("x"), 1000)
	for range 100 {
		l.add(piece)
		sent += len(piece)
		if len(l.rest) >= record.MaxPayload {
			t.Fatalf("%d bytes are held", len(l.rest))
		}
	}
	l.end()
	var d record.Decoder
	out := l.take()
	for len(out) > 0 {
		r, n, err := d.Next(out)
		if err != nil || r.Flags.Newline() {
			t.Fatalf("%+v, %v", r.Flags, err)
		}
		payload += len(r.Payload)
		out = out[n:]
	}
	if payload != sent {
		t.Errorf("%d bytes of %d", payload, sent)
	}
}

func TestALineWaitsFromItsFirstByteOn(t *testing.T) {
	now := time.Unix(1000, 0)
	l := lines{now: func() time.Time { return now }}
	l.add([]byte("a"))
	due := l.due
	now = now.Add(time.Hour)
	l.add([]byte("b"))
	if !l.due.Equal(due) || due.Sub(time.Unix(1000, 0)) != patience {
		t.Errorf("due at %v, then %v", due, l.due)
	}
	l.add([]byte("\n"))
	if !l.due.IsZero() {
		t.Errorf("due at %v for nothing", l.due)
	}
}

func FuzzLines(f *testing.F) {
	f.Add([]byte("a\n\nb"), uint8(1))
	f.Add(bytes.Repeat([]byte("x"), 40<<10), uint8(255))
	f.Fuzz(func(t *testing.T, stream []byte, step uint8) {
		l := lines{now: time.Now}
		var out []byte
		for rest := stream; len(rest) > 0; {
			n := min(len(rest), 1+int(step)*97)
			l.add(rest[:n])
			if step%3 == 0 {
				l.flush()
			}
			out = append(out, l.take()...)
			rest = rest[n:]
		}
		l.end()
		out = append(out, l.take()...)
		// What clients read is the stream.
		var d record.Decoder
		var got []byte
		for len(out) > 0 {
			r, n, err := d.Next(out)
			if err != nil || n == 0 {
				t.Fatal(err)
			}
			got = append(got, r.Payload...)
			if r.Flags.Newline() {
				got = append(got, '\n')
			}
			out = out[n:]
		}
		if !bytes.Equal(got, stream) {
			t.Fatalf("%q became %q", stream, got)
		}
	})
}
