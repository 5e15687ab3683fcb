// SPDX-License-Identifier: Apache-2.0

package qga

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
)

type request struct {
	Execute   string `json:"execute"`
	Arguments any    `json:"arguments,omitempty"`
}

// execArguments are those of guest-exec. Env is the whole environment.
type execArguments struct {
	Path          string   `json:"path"`
	Arg           []string `json:"arg"`
	Env           []string `json:"env,omitempty"`
	InputData     []byte   `json:"input-data,omitempty"`
	CaptureOutput bool     `json:"capture-output"`
}

// execStarted is what guest-exec answers.
type execStarted struct {
	PID int `json:"pid"`
}

func (s execStarted) check() error {
	if s.PID <= 1 {
		return fmt.Errorf("process ID %d", s.PID)
	}
	return nil
}

// execStatus is what guest-exec-status answers, its output decoded from base64.
type execStatus struct {
	Exited       *bool  `json:"exited"`
	ExitCode     int    `json:"exitcode"`
	Signal       int    `json:"signal"`
	Stdout       []byte `json:"out-data"`
	Stderr       []byte `json:"err-data"`
	OutTruncated bool   `json:"out-truncated"`
	ErrTruncated bool   `json:"err-truncated"`
}

func (s execStatus) check() error {
	switch {
	case s.Exited == nil:
		return errors.New("no word on whether it exited")
	case s.ExitCode < 0 || s.ExitCode > 255:
		return fmt.Errorf("exit code %d", s.ExitCode)
	case s.Signal < 0 || s.Signal > 127:
		return fmt.Errorf("signal %d", s.Signal)
	case s.OutTruncated || s.ErrTruncated:
		// What runs here bounds its output itself, far below the agent's 16 MiB.
		return errors.New("truncated output")
	}
	return nil
}

// code is the exit code as a shell tells it.
func (s execStatus) code() int {
	if s.Signal != 0 {
		return 128 + s.Signal
	}
	return s.ExitCode
}

// maxAnswer is more than any answer that is asked for: a chunk of output in base64.
const maxAnswer = 4 << 20

// decode reads an answer into result, a pointer or nil. Fields that it does not know are
// those of a newer agent. The guest may answer anything: an error never repeats it whole.
func decode(answer []byte, result any) error {
	if len(answer) > maxAnswer {
		return nonsense(fmt.Errorf("%d bytes", len(answer)))
	}
	var envelope struct {
		Return json.RawMessage `json:"return"`
		Error  *struct {
			Class string `json:"class"`
			Desc  string `json:"desc"`
		} `json:"error"`
	}
	if err := json.Unmarshal(answer, &envelope); err != nil {
		return nonsense(err)
	}
	switch {
	case envelope.Error != nil:
		return explain(errors.New(printable(envelope.Error.Desc)))
	case envelope.Return == nil:
		return nonsense(errors.New("neither a result nor an error"))
	case result == nil:
		return nil
	}
	if err := json.Unmarshal(envelope.Return, result); err != nil {
		return nonsense(err)
	}
	if checked, ok := result.(interface{ check() error }); ok {
		if err := checked.check(); err != nil {
			return nonsense(err)
		}
	}
	return nil
}

// nonsense is the error for an answer that is not in the protocol.
func nonsense(cause error) error {
	return fmt.Errorf("the guest agent's answer makes no sense: %s: %w", printable(cause.Error()), errdefs.ErrInternal)
}

// printable makes a guest's text fit for a line of a log.
func printable(s string) string { return printableUpTo(s, 200) }

// printableUpTo is printable for texts of another length, in bytes.
func printableUpTo(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s[:min(len(s), most)], "?"))
	return strings.TrimSpace(s)
}

// errRefused marks what the agent itself answered no to.
var errRefused = errors.New("refused by the guest agent")

// explain gives the agent's refusals, which come as text, a class and a remedy. The words
// are those of QEMU's qapi/qmp-dispatch.c and qga/commands-posix.c, and glib's gspawn.c.
func explain(err error) error {
	if !errors.Is(errdefs.Resolve(err), errdefs.ErrUnknown) {
		return err // the transport's own
	}
	text := err.Error()
	class, remedy := error(errdefs.ErrUnknown), ""
	switch {
	case strings.Contains(text, "frozen"):
		class, remedy = errdefs.ErrUnavailable, "; the guest's file systems are frozen"
	case strings.Contains(text, "has been disabled"), strings.Contains(text, "has not been found"):
		class = errdefs.ErrFailedPrecondition
		remedy = "; vmlet needs it, and for all else guest-ping, guest-exec, guest-exec-status and guest-shutdown: allow them by qemu-ga's " +
			"--allow-rpcs or --block-rpcs, in Red Hat's images in /etc/sysconfig/qemu-ga"
	case strings.Contains(text, "Failed to execute child process"):
		class = errdefs.ErrFailedPrecondition
		remedy = "; vmlet needs " + shell + " and, in the agent's PATH, " + setsid + " (util-linux or busybox)"
	case strings.Contains(text, "Invalid parameter 'pid'"), strings.Contains(text, "does not exist"):
		class, remedy = errdefs.ErrAborted, "; the guest agent was restarted while the command ran"
	}
	// What libvirt puts before the agent's words is longer than most of these.
	return fmt.Errorf("%w: %s%s: %w", errRefused, printableUpTo(text, 500), remedy, class)
}
