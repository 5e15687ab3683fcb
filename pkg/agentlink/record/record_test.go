// SPDX-License-Identifier: Apache-2.0

package record_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/vmlet/vmlet/pkg/agentlink/record"
)

// decode returns all records of buf, how many stretches of it were malformed, and what is
// left at its end.
func decode(buf []byte) (records []record.Record, malformed int, rest []byte) {
	var d record.Decoder
	for {
		r, n, err := d.Next(buf)
		switch {
		case err != nil:
			malformed++
		case n == 0:
			return records, malformed, buf
		default:
			records = append(records, record.Record{Flags: r.Flags, Payload: slices.Clone(r.Payload)})
		}
		buf = buf[n:]
	}
}

func TestRecordsComeBackAsTheyWere(t *testing.T) {
	want := []record.Record{
		{Payload: []byte("a line")},
		{Flags: record.Stderr, Payload: []byte{}},
		{Flags: record.Partial, Payload: []byte("zeros\x00within\x00")},
		{Flags: record.Stderr | record.Unterminated, Payload: bytes.Repeat([]byte{0xff}, record.MaxPayload)},
		{Payload: make([]byte, record.MaxPayload)},
	}
	var buf []byte
	for _, r := range want {
		buf = record.Append(buf, r.Flags, r.Payload)
	}
	got, malformed, rest := decode(buf)
	if fmt.Sprint(got) != fmt.Sprint(want) || malformed != 0 || len(rest) != 0 {
		t.Errorf("got %d records, %d malformed, %d bytes left; want %d records", len(got), malformed, len(rest), len(want))
	}
}

func TestAPayloadTooLongBecomesPartialRecords(t *testing.T) {
	long := bytes.Repeat([]byte("x"), 2*record.MaxPayload+1)
	got, _, _ := decode(record.Append(nil, record.Stderr|record.Unterminated, long))
	var flags []record.Flags
	var payload []byte
	for _, r := range got {
		flags = append(flags, r.Flags)
		payload = append(payload, r.Payload...)
	}
	p := record.Stderr | record.Partial
	if !slices.Equal(flags, []record.Flags{p, p, record.Stderr | record.Unterminated}) || !bytes.Equal(payload, long) {
		t.Errorf("flags %v, %d bytes of %d", flags, len(payload), len(long))
	}
}

func TestOnlyAWholeLineHadANewline(t *testing.T) {
	for flags, want := range map[record.Flags]bool{
		0: true, record.Stderr: true, record.Partial: false, record.Unterminated: false, record.Stderr | record.Partial: false,
	} {
		if flags.Newline() != want {
			t.Errorf("flags %b: newline %v", flags, !want)
		}
	}
}

func TestAnUnfinishedRecordWaitsForItsEnd(t *testing.T) {
	whole := record.Append(nil, 0, []byte("to be continued"))
	for i := range whole {
		if got, malformed, rest := decode(whole[:i]); len(got) != 0 || malformed != 0 || len(rest) != i {
			t.Fatalf("%d of %d bytes: %d records, %d malformed, %d bytes left", i, len(whole), len(got), malformed, len(rest))
		}
	}
}

// An agent that was killed within a record is followed by one that begins with a zero.
func TestGarbageCostsNoMoreThanTheRecordItIsIn(t *testing.T) {
	line := record.Append(nil, 0, []byte("whole"))
	broken := append(slices.Clone(line[:3]), 0)
	tests := map[string]struct {
		garbage   []byte
		malformed int
	}{
		"a record cut short":         {broken, 1},
		"zeros":                      {[]byte{0, 0, 0}, 0},
		"unknown flags":              {[]byte{2, 0x80, 0}, 1},
		"no flags":                   {[]byte{1, 0}, 1},
		"noise longer than a record": {append(bytes.Repeat([]byte{9}, 40<<10), 0), 3},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, malformed, rest := decode(slices.Concat(line, tt.garbage, line))
			if len(got) != 2 || malformed != tt.malformed || len(rest) != 0 {
				t.Errorf("%d records, %d malformed, %d bytes left", len(got), malformed, len(rest))
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(record.Append(record.Append(nil, record.Stderr, []byte("a")), record.Partial, []byte("b\x00c")))
	f.Add([]byte{0, 5, 1})
	f.Add(bytes.Repeat([]byte{1}, 17<<10))
	f.Fuzz(func(t *testing.T, buf []byte) {
		var d record.Decoder
		for len(buf) > 0 {
			r, n, err := d.Next(buf)
			if err != nil && !errors.Is(err, record.ErrMalformed) || n > len(buf) || len(r.Payload) > record.MaxPayload {
				t.Fatalf("%d of %d bytes, payload of %d: %v", n, len(buf), len(r.Payload), err)
			}
			if n == 0 {
				return
			}
			if err == nil {
				// A record has one meaning: written again, it is decoded to the same.
				again, _, err := new(record.Decoder).Next(record.Append(nil, r.Flags, r.Payload))
				if err != nil || again.Flags != r.Flags || !bytes.Equal(again.Payload, r.Payload) {
					t.Fatalf("%v became %v, %v", r, again, err)
				}
			}
			buf = buf[n:]
		}
	})
}

func BenchmarkAppendLines(b *testing.B) {
	line := bytes.Repeat([]byte("x"), 100)
	b.SetBytes(int64(len(line)))
	var buf []byte
	for b.Loop() {
		buf = record.Append(buf[:0], 0, line)
	}
}
