// SPDX-License-Identifier: Apache-2.0

// Package logfile reads container log files: whole or from their last lines on, and as
// they grow, through rotation.
package logfile

import (
	"bufio"
	"io"

	"github.com/vmlet/vmlet/pkg/crilog"
)

// sink puts entries together to what was printed, on the stream it was printed to.
type sink struct {
	stdout, stderr *bufio.Writer
	last           *bufio.Writer
}

func newSink(stdout, stderr io.Writer) *sink {
	s := &sink{stdout: bufio.NewWriter(stdout), stderr: bufio.NewWriter(stderr)}
	s.last = s.stdout
	return s
}

// line takes a line of the file, with its LF. One that is no entry passes as it is.
func (s *sink) line(line []byte) error {
	e, err := crilog.Parse(line[:len(line)-1])
	if err != nil {
		e.Payload = line[:len(line)-1]
	}
	to := s.stdout
	if e.Stream == crilog.Stderr {
		to = s.stderr
	}
	if to != s.last { // what came first is to be seen first where both go to one terminal
		if err := s.last.Flush(); err != nil {
			return err
		}
		s.last = to
	}
	if _, err := to.Write(e.Payload); err != nil {
		return err
	}
	if e.Partial {
		return nil
	}
	return to.WriteByte('\n')
}

func (s *sink) flush() error { return s.last.Flush() }
