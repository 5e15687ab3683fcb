// SPDX-License-Identifier: Apache-2.0

package crilog

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var entryTime = time.Date(2026, 1, 2, 3, 4, 5, 60, time.UTC)

func TestEntriesStandInTheFileAsKubeletReadsThem(t *testing.T) {
	for _, tc := range []struct {
		entry Entry
		line  string
	}{
		{Entry{entryTime, "stdout", false, []byte("a line")}, "2026-01-02T03:04:05.000000060Z stdout F a line\n"},
		{Entry{entryTime, "stderr", true, []byte(" F ")}, "2026-01-02T03:04:05.000000060Z stderr P  F \n"},
		{Entry{entryTime, "stdout", false, []byte{}}, "2026-01-02T03:04:05.000000060Z stdout F \n"},
		{Entry{entryTime, "stdout", false, []byte("\xff\r\x00")}, "2026-01-02T03:04:05.000000060Z stdout F \xff\r\x00\n"},
	} {
		got := Append([]byte("before "), tc.entry)
		if want := "before " + tc.line; string(got) != want {
			t.Errorf("Append = %q, want %q", got, want)
		}
		back, err := Parse([]byte(tc.line[:len(tc.line)-1]))
		if err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(tc.entry, back); diff != "" {
			t.Errorf("%q: %s", tc.line, diff)
		}
	}
}

func TestTimesAreWrittenInUTC(t *testing.T) {
	at := entryTime.In(time.FixedZone("", 5400))
	if got, want := Append(nil, Entry{Time: at, Stream: "stdout"}), "2026-01-02T03:04:05.000000060Z stdout F \n"; string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestEntriesOfOtherRuntimesAreRead(t *testing.T) {
	for line, want := range map[string]Entry{
		"2026-01-02T03:04:05.5Z stdout P:more:tags x y": {entryTime.Truncate(time.Second).Add(time.Second / 2), "stdout", true, []byte("x y")},
		"2026-01-02T05:04:05.00000006+02:00 stderr F x": {entryTime, "stderr", false, []byte("x")},
	} {
		got, err := Parse([]byte(line))
		if err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: %s", line, diff)
		}
	}
}

func TestWhatIsNoEntryIsAnError(t *testing.T) {
	for _, line := range []string{
		"", "plain text", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z stdout", "2026-01-02T03:04:05Z stdout F",
		"2026-01-02T03:04:05Z stdin F x", "2026-01-02T03:04:05Z stdout X x", "2026-01-02T03:04:05Z stdout  x",
		"yesterday stdout F x", "\x00\x00\x00\x00",
	} {
		if e, err := Parse([]byte(line)); err == nil {
			t.Errorf("%q was read as %v", line, e)
		}
	}
}

func FuzzEntry(f *testing.F) {
	f.Add([]byte("2026-01-02T03:04:05.000000060Z stdout F a line"))
	f.Add([]byte("2026-01-02T03:04:05+02:00 stderr P:x \xff\r"))
	f.Fuzz(func(t *testing.T, line []byte) {
		if bytes.ContainsRune(line, '\n') {
			t.Skip()
		}
		e, err := Parse(line)
		if err != nil {
			return
		}
		b := Append(nil, e)
		if !bytes.HasSuffix(b, []byte("\n")) || bytes.Count(b, []byte("\n")) != 1 {
			t.Fatalf("%q is not one line", b)
		}
		again, err := Parse(b[:len(b)-1])
		if err != nil {
			t.Fatal(err)
		}
		if !again.Time.Equal(e.Time) || again.Stream != e.Stream || again.Partial != e.Partial || !bytes.Equal(again.Payload, e.Payload) {
			t.Errorf("%v became %v", e, again)
		}
	})
}
