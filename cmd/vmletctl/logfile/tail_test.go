// SPDX-License-Identifier: Apache-2.0

package logfile

import (
	"strings"
	"testing"
)

const (
	full    = "2026-01-02T03:04:05.000000006Z stdout F "
	partial = "2026-01-02T03:04:05.000000006Z stdout P "
)

func TestTailOffset(t *testing.T) {
	long := strings.Repeat("x", 10_000) // more than is read at a time
	for title, tc := range map[string]struct {
		before, from string // the file, cut where the last lines begin
		lines        int
	}{
		"nothing of an empty file":      {"", "", 3},
		"no lines":                      {full + "a\n", "", 0},
		"the last line":                 {full + "a\n", full + "b\n", 1},
		"two of three":                  {full + "a\n", full + "b\n" + full + "c\n", 2},
		"all of them":                   {"", full + "a\n" + full + "b\n", 2},
		"more than there are":           {"", full + "a\n" + full + "b\n", 9},
		"a line in parts is one":        {full + "a\n", partial + "b\n" + partial + "b\n" + full + "b\n", 1},
		"parts before the last":         {full + "a\n", partial + "b\n" + full + "b\n" + full + "c\n", 2},
		"a beginning is a line":         {full + "a\n", partial + "b\n", 1},
		"a beginning and one before":    {full + "a\n", full + "b\n" + partial + "c\n", 2},
		"an entry that is being made":   {full + "a\n", full[:20], 1},
		"a long line":                   {full + "a\n", full + long + "\n", 1},
		"long lines before":             {full + long + "\n" + full + long + "\n", full + "c\n", 1},
		"what is no entry":              {"junk\n", "junk\n", 1},
		"an empty line":                 {full + "a\n", full + "\n", 1},
		"the last of many":              {strings.Repeat(full+"a\n", 1000), full + "b\n", 1},
		"what is no entry ends a line":  {"junk\n", full + "b\n", 1},
		"a long beginning and its end":  {full + "a\n", partial + long + "\n" + full + "b\n", 1},
		"a single entry without its LF": {"", full + "a", 1},
	} {
		t.Run(title, func(t *testing.T) {
			file := tc.before + tc.from
			got, err := tailOffset(strings.NewReader(file), int64(len(file)), tc.lines)
			if err != nil || got != int64(len(tc.before)) {
				t.Errorf("got %d, %v, want %d", got, err, len(tc.before))
			}
		})
	}
}

func TestTailOfAFileThatShrinks(t *testing.T) {
	if _, err := tailOffset(strings.NewReader(full), 10_000, 3); err == nil {
		t.Error("want an error: what was counted on is gone")
	}
}
