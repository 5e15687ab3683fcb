// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"bytes"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vmlet/vmlet/pkg/crilog"
)

var entryTime = time.Date(2026, 1, 2, 3, 4, 5, 60, time.UTC)

// lines describes entries for tests: "F:..." or "P:...", one each.
func lines(t *testing.T, entries []byte) []string {
	t.Helper()
	var out []string
	for line := range bytes.Lines(entries) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			t.Fatalf("%q has no end", line)
		}
		e, err := crilog.Parse(line[:len(line)-1])
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		out = append(out, string(crilog.Tag(e.Partial))+":"+string(e.Payload))
	}
	return out
}

func TestOutputBecomesLines(t *testing.T) {
	long := strings.Repeat("x", MaxPayload)
	for name, tc := range map[string]struct {
		raw  string
		r    rules
		want []string
		took int
		rest bool
	}{
		"nothing":                        {"", rules{}, nil, 0, false},
		"lines":                          {"one\ntwo\n\nfour\n", rules{}, []string{"F:one", "F:two", "F:", "F:four"}, 14, false},
		"a line of a terminal":           {"one\r\ntwo\r\r\n", rules{}, []string{"F:one", "F:two"}, 11, false},
		"an overwritten line":            {"10%\r20%\r\r\r30%\n", rules{}, []string{"F:10%\r20%\r30%"}, 14, false},
		"bytes that are no text":         {"\xff\x00\xc3\n", rules{}, []string{"F:\xff\x00\xc3"}, 4, false},
		"an unended line stays":          {"one\nlogin: ", rules{}, []string{"F:one"}, 4, true},
		"an unended line is shown":       {"one\nlogin: ", rules{flush: true}, []string{"F:one", "P:login: "}, 11, false},
		"the end of a shown line":        {"\n", rules{mid: true}, []string{"F:"}, 1, false},
		"a last CR may belong to an end": {"login: \r", rules{flush: true}, []string{"P:login: "}, 7, false},
		"CRs alone are not shown":        {"\r\r", rules{flush: true}, nil, 1, false},
		"CRs alone do not wait":          {"\r\r", rules{}, nil, 0, false},
		"the last line":                  {"one\ntwo", rules{last: true}, []string{"F:one", "F:two"}, 7, false},
		"the last line has CRs":          {"two\r\r", rules{last: true}, []string{"F:two"}, 5, false},
		"the last line was shown":        {"", rules{mid: true, last: true}, []string{"F:"}, 0, false},
		"the last line was shown, CR":    {"\r", rules{mid: true, last: true}, []string{"F:"}, 1, false},
		"nothing is last":                {"", rules{last: true}, nil, 0, false},
		"a CR is last":                   {"\r", rules{last: true}, nil, 1, false},
		"as long as may be":              {long + "\n", rules{}, []string{"F:" + long}, MaxPayload + 1, false},
		"as long as may be, with CR":     {long + "\r\r\n", rules{}, []string{"F:" + long}, MaxPayload + 3, false},
		"as long as may be, unended":     {long, rules{}, nil, 0, true},
		"longer than may be":             {long + "y\n", rules{}, []string{"P:" + long, "F:y"}, MaxPayload + 2, false},
		"longer by a CR":                 {long + "\ry\n", rules{}, []string{"P:" + long, "F:\ry"}, MaxPayload + 3, false},
		"much longer":                    {long + long + "\n", rules{}, []string{"P:" + long, "F:" + long}, 2*MaxPayload + 1, false},
		"much longer, unended":           {long + long + "y", rules{}, []string{"P:" + long, "P:" + long}, 2 * MaxPayload, true},
	} {
		t.Run(name, func(t *testing.T) {
			got := encode(nil, []byte(tc.raw), entryTime, 1<<20, tc.r)
			if diff := cmp.Diff(tc.want, lines(t, got.entries)); diff != "" {
				t.Error(diff)
			}
			if got.took != tc.took || got.rest != tc.rest {
				t.Errorf("took %d, rest %v; want %d, %v", got.took, got.rest, tc.took, tc.rest)
			}
		})
	}
}

func TestABatchEndsAtItsLimit(t *testing.T) {
	raw := []byte(strings.Repeat("\n", 1000))
	got := encode(nil, raw, entryTime, 100, rules{})
	if n := len(lines(t, got.entries)); n != 3 || got.took != 3 {
		t.Errorf("%d entries of %d bytes, want the 3 that reach 100 bytes", n, got.took)
	}
}

var (
	lineEnds    = regexp.MustCompile("\r+\n")
	severalCRs  = regexp.MustCompile("\r+")
	crsAtTheEnd = regexp.MustCompile("\r+$")
)

// wanted is what the log should say about output, worked out in another way than cut
// does.
func wanted(output []byte) string {
	s := lineEnds.ReplaceAllString(crsAtTheEnd.ReplaceAllString(string(output), ""), "\n")
	s = severalCRs.ReplaceAllString(s, "\r")
	if s != "" && !strings.HasSuffix(s, "\n") {
		s += "\n"
	}
	return s
}

// text joins what entries say.
func text(t *testing.T, entries []byte) string {
	t.Helper()
	var b strings.Builder
	for _, line := range lines(t, entries) {
		b.WriteString(line[2:])
		if line[0] == 'F' {
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// FuzzEncode cuts output at any place and shows unended lines at any time: the log says
// the same, and a replay of the output agrees with each of its entries.
func FuzzEncode(f *testing.F) {
	f.Add([]byte("one\r\n\r\rtwo\r\n"), []byte{3, 1, 200})
	f.Add([]byte("10%\r20%\r\r\n\nlogin: "), []byte{1, 129, 2})
	f.Fuzz(func(t *testing.T, raw, cuts []byte) { encodeInPieces(t, raw, cuts, 1) })
}

func TestLongOutputIsCutAnywhere(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		raw, cuts := randomOutput(random, random.IntN(5*MaxPayload)), make([]byte, 40)
		for i := range cuts {
			cuts[i] = byte(random.Uint32())
		}
		encodeInPieces(t, raw, cuts, 100)
	}
}

// randomOutput has lines of all lengths and CRs in all places.
func randomOutput(random *rand.Rand, n int) []byte {
	b := make([]byte, 0, n)
	for len(b) < n {
		for range random.IntN(1 << random.IntN(16)) {
			b = append(b, byte(random.Uint32()))
		}
		for range random.IntN(4) {
			b = append(b, "\r\n\r\r\nx"[random.IntN(6)])
		}
	}
	return b[:n]
}

// encodeInPieces cuts raw as cuts say, in units of step bytes.
func encodeInPieces(t *testing.T, raw, cuts []byte, step int) {
	t.Helper()
	var log []byte
	done, seen, mid := 0, 0, false
	for _, c := range cuts {
		seen = min(seen+int(c&0x7f)*step, len(raw))
		b := encode(nil, raw[done:seen], entryTime, 1<<20, rules{mid: mid, flush: c&0x80 != 0})
		log = append(log, b.entries...)
		done += b.took
		mid = b.mid
	}
	b := encode(nil, raw[done:], entryTime, 1<<30, rules{mid: mid, last: true})
	log = append(log, b.entries...)
	if done += b.took; done != len(raw) {
		t.Fatalf("%d bytes of %d were dealt with", done, len(raw))
	}
	if got, want := text(t, log), wanted(raw); got != want {
		t.Fatal(difference(got, want))
	}
	replayed(t, raw, log)
}

// replayed expects that a replay finds each entry of the log in the output.
func replayed(t *testing.T, raw, log []byte) {
	t.Helper()
	spooled := newReplay(bytes.NewReader(raw), 0, int64(len(raw)))
	for line := range bytes.Lines(log) {
		e, err := crilog.Parse(line[:len(line)-1])
		if err != nil {
			t.Fatal(err)
		}
		if _, ok, err := spooled.match(e.Payload, e.Partial); !ok || err != nil {
			t.Fatalf("%.100q is not found there: %v", line, err)
		}
	}
	if rest, err := spooled.next(); err == nil {
		t.Fatalf("%q is left", rest)
	}
}
