// SPDX-License-Identifier: Apache-2.0

// Package crilog is the format of container log files, as kubelet and kubectl read it.
package crilog

import (
	"bytes"
	"errors"
	"fmt"
	"time"
)

// The streams that an entry may come from.
const (
	Stdout = "stdout"
	Stderr = "stderr"
)

// TimeLayout is RFC 3339 with all nine digits, so that each entry's head has the same
// length. Readers of RFC3339Nano, kubelet among them, take it.
const TimeLayout = "2006-01-02T15:04:05.000000000Z07:00"

// Entry is one entry of a CRI log file: a line, or a part of one.
//
//	2026-01-02T03:04:05.000000006Z stdout F a line
//	2026-01-02T03:04:05.000000006Z stdout P the beginning of a line,
//	2026-01-02T03:04:05.000000006Z stdout F  and its end
//
// The format is kubelet's: pkg/kubelet/kuberuntime/logs, parseCRILog.
type Entry struct {
	Time   time.Time
	Stream string // Stdout or Stderr
	// Partial: the next entry goes on with the same line.
	Partial bool
	Payload []byte // without any LF
}

// Append appends an entry to dst as it stands in a file, with its LF.
func Append(dst []byte, e Entry) []byte {
	dst = AppendHead(dst, e.Time, e.Stream, e.Partial)
	dst = append(dst, e.Payload...)
	return append(dst, '\n')
}

// AppendHead appends all that stands before the payload. The tag is its last byte but one.
func AppendHead(dst []byte, at time.Time, stream string, partial bool) []byte {
	dst = at.UTC().AppendFormat(dst, TimeLayout)
	dst = append(dst, ' ')
	dst = append(dst, stream...)
	return append(dst, ' ', Tag(partial), ' ')
}

// Tag is the tag of an entry as it is written.
func Tag(partial bool) byte {
	if partial {
		return 'P'
	}
	return 'F'
}

// Parse reads an entry from a line of a file, without its LF. The payload shares
// its memory with the line. Tags after the first one are skipped.
func Parse(line []byte) (Entry, error) {
	at, rest, ok := bytes.Cut(line, []byte(" "))
	if !ok {
		return Entry{}, errors.New("no stream in the log entry")
	}
	t, err := time.Parse(time.RFC3339Nano, string(at))
	if err != nil {
		return Entry{}, fmt.Errorf("time of the log entry: %w", err)
	}
	stream, rest, ok := bytes.Cut(rest, []byte(" "))
	if s := string(stream); !ok || s != Stdout && s != Stderr {
		return Entry{}, fmt.Errorf("stream %q of the log entry is neither stdout nor stderr", stream)
	}
	tags, payload, ok := bytes.Cut(rest, []byte(" "))
	first, _, _ := bytes.Cut(tags, []byte(":"))
	if s := string(first); !ok || s != "P" && s != "F" {
		return Entry{}, fmt.Errorf("tag %q of the log entry is neither P nor F", first)
	}
	return Entry{Time: t, Stream: string(stream), Partial: first[0] == 'P', Payload: payload}, nil
}
