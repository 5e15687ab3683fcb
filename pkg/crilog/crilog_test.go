// SPDX-License-Identifier: Apache-2.0

package crilog_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vmlet/vmlet/pkg/crilog"
)

func TestParse(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	for line, want := range map[string]crilog.Entry{
		"2026-01-02T03:04:05.000000006Z stdout F a line":           {Time: at, Stream: "stdout", Payload: []byte("a line")},
		"2026-01-02T03:04:05.000000006Z stderr P a  part ":         {Time: at, Stream: "stderr", Partial: true, Payload: []byte("a  part ")},
		"2026-01-02T03:04:05.000000006Z stdout F ":                 {Time: at, Stream: "stdout", Payload: []byte{}},
		"2026-01-02T03:04:05.000000006Z stdout P:x:F more tags":    {Time: at, Stream: "stdout", Partial: true, Payload: []byte("more tags")},
		"2026-01-02T04:04:05.000000006+01:00 stdout F another day": {Time: at, Stream: "stdout", Payload: []byte("another day")},
	} {
		got, err := crilog.Parse([]byte(line))
		if err != nil {
			t.Errorf("%q: %v", line, err)
			continue
		}
		got.Time = got.Time.UTC()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: %s", line, diff)
		}
	}
}

func TestWhatIsNoEntryIsRefused(t *testing.T) {
	for line, want := range map[string]string{
		"":                               "no stream",
		"2026-01-02T03:04:05.000000006Z": "no stream",
		"yesterday stdout F a":           "time",
		"2026-01-02T03:04:05.000000006Z stdwhat F a": "neither stdout nor stderr",
		"2026-01-02T03:04:05.000000006Z stdout":      "neither stdout nor stderr",
		"2026-01-02T03:04:05.000000006Z stdout X a":  "neither P nor F",
		"2026-01-02T03:04:05.000000006Z stdout F":    "neither P nor F",
	} {
		if _, err := crilog.Parse([]byte(line)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want an error with %q", line, err, want)
		}
	}
}
