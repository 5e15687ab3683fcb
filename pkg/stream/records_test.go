// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vmlet/vmlet/pkg/agentlink/record"
	"github.com/vmlet/vmlet/pkg/crilog"
	"github.com/vmlet/vmlet/pkg/vm"
)

// entries describes entries for tests, one a line, with neighbouring remarks on what was not
// readable added up: where one ends depends on how the output was read.
func entries(t *testing.T, log []byte) []string {
	t.Helper()
	var out []string
	broken := 0
	flush := func() {
		if broken > 0 {
			out = append(out, fmt.Sprint("broken ", broken))
		}
		broken = 0
	}
	for line := range bytes.Lines(log) {
		e, err := crilog.Parse(bytes.TrimSuffix(line, []byte("\n")))
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if n, is := remark(e); is {
			broken += n
			continue
		}
		flush()
		out = append(out, fmt.Sprintf("%s %c %q", e.Stream, crilog.Tag(e.Partial), e.Payload))
	}
	flush()
	return out
}

// remark tells whether an entry says that bytes were not readable. A guest may say so, too.
func remark(e crilog.Entry) (n int, is bool) {
	_, err := fmt.Sscanf(string(e.Payload), "[vmlet: %d bytes of output were not readable here]", &n)
	return n, err == nil && e.Stream == crilog.Stderr && !e.Partial && bytes.HasSuffix(e.Payload, []byte("here]"))
}

// longest is the most bytes without a zero that may be a record.
var longest = func() int {
	none := bytes.Repeat([]byte{1}, 2*longestRecord)
	_, n, _ := new(record.Decoder).Next(none) //nolint:errcheck // it is malformed
	return n
}()

// wantedEntries is what a log says in the end of a spool, told record by record.
func wantedEntries(spool []byte) []string {
	var out []string
	broken := 0
	mid := map[string]bool{}
	add := func(stream string, partial bool, payload []byte) {
		if broken > 0 {
			out = append(out, fmt.Sprint("broken ", broken))
			broken, mid[crilog.Stderr] = 0, false
		}
		if payload != nil {
			out = append(out, fmt.Sprintf("%s %c %q", stream, crilog.Tag(partial), payload))
			mid[stream] = partial
		}
	}
	stretches := bytes.SplitAfter(spool, []byte{0})
	for _, s := range stretches {
		for len(s) >= longest+1 || len(s) >= longest && s[len(s)-1] != 0 {
			broken += longest
			s = s[longest:]
		}
		r, n, err := new(record.Decoder).Next(s)
		switch {
		case len(bytes.Trim(s, "\x00")) == 0:
		case n == 0 || err != nil || bytes.Contains(r.Payload, []byte("\n")):
			broken += len(s)
		default:
			stream := crilog.Stdout
			if r.Flags&record.Stderr != 0 {
				stream = crilog.Stderr
			}
			payload := append([]byte{}, r.Payload...)
			if r.Flags.Newline() {
				payload = bytes.TrimRight(payload, "\r")
			}
			e := crilog.Entry{Stream: stream, Partial: r.Flags&record.Partial != 0, Payload: payload}
			if n, is := remark(e); is {
				broken += n
				mid[stream] = false
				continue
			}
			add(e.Stream, e.Partial, e.Payload)
		}
	}
	add("", false, nil)
	for _, stream := range []string{crilog.Stdout, crilog.Stderr} {
		if mid[stream] {
			out = append(out, fmt.Sprintf("%s F %q", stream, ""))
		}
	}
	return out
}

// randomRecords is what a guest may write that is mostly, but not quite, to be trusted.
func randomRecords(random *rand.Rand, n int) []byte {
	var b []byte
	for len(b) < n {
		switch random.IntN(12) {
		case 0:
			b = append(b, make([]byte, random.IntN(1<<random.IntN(17)))...)
		case 1:
			for range random.IntN(1 << random.IntN(16)) {
				b = append(b, byte(random.Uint32()))
			}
		case 2:
			b = append(b, bytes.Repeat([]byte{byte(1 + random.IntN(255))}, random.IntN(1<<random.IntN(17)))...)
		case 3:
			b = record.Append(b, record.Stderr, fmt.Appendf(nil, "[vmlet: %d bytes of output were not readable here]", random.IntN(100)))
		case 4:
			b = record.Append(b, record.Flags(random.IntN(8)), []byte("two\nlines"))
		default:
			payload := make([]byte, random.IntN(1<<random.IntN(14)))
			for i := range payload {
				payload[i] = "abc \r\x00\xff"[random.IntN(7)]
			}
			b = record.Append(b, record.Flags(random.IntN(8)), payload)
		}
	}
	return b
}

func TestRecordsBecomeEntries(t *testing.T) {
	rec := func(flags record.Flags, payload string) []byte { return record.Append(nil, flags, []byte(payload)) }
	full := rec(0, strings.Repeat("x", record.MaxPayload))
	for name, tc := range map[string]struct {
		spool []byte
		last  bool
		want  []string
		left  int
	}{
		"nothing":                     {nil, true, nil, 0},
		"lines of both streams":       {slices.Concat(rec(0, "one"), rec(record.Stderr, "two"), rec(0, "")), false, []string{`stdout F "one"`, `stderr F "two"`, `stdout F ""`}, 0},
		"a line in pieces":            {slices.Concat(rec(record.Partial, "10%"), rec(0, "100%")), false, []string{`stdout P "10%"`, `stdout F "100%"`}, 0},
		"the end without a newline":   {rec(record.Unterminated, "$ "), true, []string{`stdout F "$ "`}, 0},
		"a line of a terminal":        {slices.Concat(rec(0, "a\rb\r\r"), rec(record.Partial, "c\r")), false, []string{`stdout F "a\rb"`, `stdout P "c\r"`}, 0},
		"bytes that are no text":      {rec(0, "\x00\xff\x00"), false, []string{`stdout F "\x00\xff\x00"`}, 0},
		"pieces that were never done": {slices.Concat(rec(record.Partial, "a"), rec(record.Stderr|record.Partial, "b")), true, []string{`stdout P "a"`, `stderr P "b"`, `stdout F ""`, `stderr F ""`}, 0},
		"as long as may be":           {full, false, []string{fmt.Sprintf("stdout F %q", strings.Repeat("x", record.MaxPayload))}, 0},
		"half a record waits":         {slices.Concat(rec(0, "one"), full[:99]), false, []string{`stdout F "one"`}, 99},
		"half a record is the last":   {slices.Concat(rec(0, "one"), full[:99]), true, []string{`stdout F "one"`, "broken 99"}, 0},
		"zeros are nothing":           {slices.Concat(make([]byte, 100<<10), rec(0, "one"), make([]byte, 100<<10)), false, []string{`stdout F "one"`}, 0},
		"a line that none may write":  {slices.Concat(rec(0, "a"), rec(0, "b\n2026-01-01T00:00:00Z stdout F c"), rec(0, "d")), false, []string{`stdout F "a"`, "broken 36", `stdout F "d"`}, 0},
		"an endless record":           {slices.Concat(bytes.Repeat([]byte{7}, 1<<20), []byte{0}, rec(0, "one")), false, []string{"broken 1048577", `stdout F "one"`}, 0},
		"garbage":                     {slices.Concat([]byte{2, 0x80, 0, 9, 9, 0, 0, 1, 0}, rec(0, "one")), false, []string{"broken 8", `stdout F "one"`}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBuffers()
			var log []byte
			r, raw := rules{}, tc.spool
			for {
				piece := raw[:min(len(raw), len(b.raw))] // as much as is read at once
				r.last = tc.last && len(piece) == len(raw)
				got := b.scanner.encodeRecords(nil, piece, entryTime, len(b.raw), r)
				if got.took == 0 && len(got.entries) == 0 {
					break
				}
				log, raw, r.mid, r.midErr = append(log, got.entries...), raw[got.took:], got.mid, got.midErr
			}
			if diff := cmp.Diff(tc.want, entries(t, log)); diff != "" {
				t.Error(diff)
			}
			if len(raw) != tc.left {
				t.Errorf("%d bytes are left, want %d", len(raw), tc.left)
			}
			// Told again from any entry on, it is the same to the end.
			replay, p := newRecordReplay(bytes.NewReader(tc.spool), 0, int64(len(tc.spool))), position{}
			for line := range bytes.Lines(log) {
				if known, err := p.advance(line[:len(line)-1], vm.ConsoleRecords, replay); !known || err != nil {
					t.Fatalf("%q is not known at %d: %v", line, p.Spool, err)
				}
			}
		})
	}
}

func recordsWorld(t *testing.T, random *rand.Rand) *world {
	t.Helper()
	w := newWorld(t, random)
	w.format = vm.ConsoleRecords
	t.Cleanup(w.die)
	return w
}

// TestEveryRecordIsLoggedOnceWhateverHappens kills the process and fills the disk at random
// moments of random copying and rotating, while a guest writes what it likes.
func TestEveryRecordIsLoggedOnceWhateverHappens(t *testing.T) {
	worlds := uint64(100)
	if testing.Short() {
		worlds = 20
	}
	for seed := range worlds {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 2))
			w := recordsWorld(t, random)
			for range 60 {
				w.step(byte(random.Uint32()))
			}
			w.end()
		})
	}
}

// FuzzRecordsWorld lets the fuzzer choose what happens.
func FuzzRecordsWorld(f *testing.F) {
	f.Add(uint64(1), []byte{0, 3, 7, 0, 3, 5, 6, 3})
	f.Add(uint64(2), []byte{2, 3, 4, 4, 3, 7, 2, 3, 5, 3})
	f.Fuzz(func(t *testing.T, seed uint64, steps []byte) {
		w := recordsWorld(t, rand.New(rand.NewPCG(seed, 1)))
		for _, what := range steps[:min(len(steps), 50)] {
			w.step(what)
		}
		w.end()
	})
}

// FuzzRecords: whatever a guest writes is taken apart to the end, and what the log says of it
// is known again.
func FuzzRecords(f *testing.F) {
	f.Add(record.Append(record.Append(nil, record.Stderr, []byte("a")), record.Partial, []byte("b\x00c")))
	f.Add([]byte{0, 5, 1, 0, 1, 1, 0})
	f.Fuzz(func(t *testing.T, spool []byte) {
		b := newBuffers()
		got := b.scanner.encodeRecords(nil, spool, entryTime, 1<<30, rules{last: true})
		if got.took != len(spool) || got.mid || got.midErr {
			t.Fatalf("took %d of %d bytes, lines go on: %v, %v", got.took, len(spool), got.mid, got.midErr)
		}
		if diff := cmp.Diff(wantedEntries(spool), entries(t, got.entries)); diff != "" {
			t.Error(diff)
		}
		replay, p := newRecordReplay(bytes.NewReader(spool), 0, int64(len(spool))), position{}
		for line := range bytes.Lines(got.entries) {
			if known, err := p.advance(line[:len(line)-1], vm.ConsoleRecords, replay); !known || err != nil {
				t.Fatalf("%q is not known at %d: %v", line, p.Spool, err)
			}
		}
	})
}

func TestALossOfRecordsIsReportedOnceOverCrashes(t *testing.T) {
	for kill := range 12 {
		w := recordsWorld(t, rand.New(rand.NewPCG(uint64(kill), 0)))
		w.print(record.Append(record.Append(nil, record.Partial, []byte("out")), record.Stderr|record.Partial, []byte("err")))
		w.mustCopy()
		line := record.Append(nil, 0, []byte("0123456789abc"))
		w.print(bytes.Repeat(line, 1000))
		w.countdown, w.deadly = kill, true
		for range 3 {
			err := w.do(func() error {
				w.con.limits.spoolCap = 1000
				return w.con.copy(t.Context(), w.buffers, false)
			})
			if err == nil {
				break
			}
		}
		lost := 1000*len(line) - 31*len(line)
		want := []string{`stdout P "out"`, `stderr P "err"`, `stdout F ""`, `stderr F ""`, fmt.Sprintf("stderr F %q", fmt.Sprintf("[vmlet: %d bytes of output were lost here]", lost))}
		for range 31 {
			want = append(want, `stdout F "0123456789abc"`)
		}
		if diff := cmp.Diff(want, entries(t, w.look())); diff != "" {
			t.Fatal(diff)
		}
	}
}

func BenchmarkEncodeRecords(b *testing.B) {
	var raw []byte
	for len(raw) < 48<<10-200 {
		raw = record.Append(raw, 0, bytes.Repeat([]byte("x"), 100))
	}
	buf := newBuffers()
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		buf.entries = buf.scanner.encodeRecords(buf.entries, raw, entryTime, len(buf.raw), rules{}).entries
	}
}
