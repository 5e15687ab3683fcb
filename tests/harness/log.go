// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// LogLine is a line of a container's log in CRI's format.
type LogLine struct {
	// Stream is "stdout" or "stderr".
	Stream string
	// Partial: the line goes on with the next.
	Partial bool
	Text    string
}

// LogPath is the present container's log.
func (r *Running) LogPath() string {
	return filepath.Join(r.node.LogDir(), r.pod.Name, fmt.Sprintf("vm/%d.log", r.ContainerAttempt))
}

// LogLines is the present container's log, none if there is no file yet.
func (r *Running) LogLines() []LogLine {
	b, err := os.ReadFile(r.LogPath())
	if err != nil {
		return nil
	}
	var out []LogLine
	for line := range strings.Lines(string(b)) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 4)
		if len(parts) < 4 {
			continue
		}
		out = append(out, LogLine{Stream: parts[1], Partial: parts[2] != "F", Text: parts[3]})
	}
	return out
}

// Log is the text of the present container's log, without the CRI prefixes.
func (r *Running) Log() string { return textOf(r.LogLines()) }

// Output is the text of one stream in the present container's log.
func (r *Running) Output(stream string) string {
	return textOf(slices.DeleteFunc(r.LogLines(), func(line LogLine) bool { return line.Stream != stream }))
}

func textOf(lines []LogLine) string {
	var text strings.Builder
	for _, line := range lines {
		text.WriteString(line.Text)
		if !line.Partial {
			text.WriteByte('\n')
		}
	}
	return text.String()
}

// WaitLog waits until the present container's log has that text.
func (r *Running) WaitLog(text string) {
	r.node.t.Helper()
	r.node.Eventually(logPatience, func() error {
		if log := r.Log(); !strings.Contains(log, text) {
			return fmt.Errorf("no %q in the log of %s, which ends: %q", text, r.pod.Name, tail(log, 300))
		}
		return nil
	})
}
