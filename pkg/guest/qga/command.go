// SPDX-License-Identifier: Apache-2.0

package qga

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// command is one command in a guest, run by run.sh.
type command struct {
	agent *Agent
	id    string
	tag   string
	// most is how much of each stream is wanted.
	most int
}

// inline is how much of each stream comes with the report.
func (c command) inline() int { return max(1, min(c.most, inlineOutput)) }

// report is the last line of run.sh.
type report struct {
	exit int
	// more is whether the files are still there, since there may be more in them.
	more bool
}

// parseReport splits what run.sh wrote into the command's output and the report.
func parseReport(out []byte, tag string) ([]byte, report, error) {
	body, ended := bytes.CutSuffix(out, []byte("\n"))
	at := bytes.LastIndexByte(body, '\n')
	if !ended || at < 0 {
		return nil, report{}, nonsense(errors.New("output without a report"))
	}
	fields := strings.Fields(string(body[at:]))
	if len(fields) == 2 && fields[0] == tag && fields[1] == "none" {
		return nil, report{}, fmt.Errorf("neither /tmp nor /run of the guest can be written: %w", errdefs.ErrFailedPrecondition)
	}
	if len(fields) != 3 || fields[0] != tag {
		return nil, report{}, nonsense(errors.New("output with another report"))
	}
	exit, err := strconv.ParseUint(fields[1], 10, 8)
	if err != nil || fields[2] != "0" && fields[2] != "1" {
		return nil, report{}, nonsense(errors.New("report with other words"))
	}
	return body[:at], report{exit: int(exit), more: fields[2] == "1"}, nil
}

// collect makes a result of the end of run.sh, and reads what did not fit into it.
func (c command) collect(ctx context.Context, status execStatus) (vm.ExecResult, error) {
	// A command that kills its own process group kills run.sh with it; what it wrote is
	// in the files.
	r := report{exit: status.code(), more: true}
	stdout, stderr := []byte(nil), []byte(nil)
	if status.Signal == 0 {
		var err error
		if stdout, r, err = parseReport(status.Stdout, c.tag); err != nil {
			if status.ExitCode == 127 || status.ExitCode == 126 {
				err = fmt.Errorf("the image must have %s: %w", shell, errdefs.ErrFailedPrecondition)
			}
			return vm.ExecResult{}, fmt.Errorf("%w (%s)", err, printable(string(status.Stderr)))
		}
		stderr = status.Stderr
	}
	res := vm.ExecResult{ExitCode: int32(r.exit), Stdout: stdout, Stderr: stderr}
	if r.more {
		var err error
		if res.Stdout, err = c.rest(ctx, "out", stdout, status.Signal != 0); err != nil {
			return vm.ExecResult{}, err
		}
		if res.Stderr, err = c.rest(ctx, "err", stderr, status.Signal != 0); err != nil {
			return vm.ExecResult{}, err
		}
		if err := c.clean(ctx); err != nil {
			return vm.ExecResult{}, err
		}
	}
	most := max(c.most, 0)
	res.Stdout = res.Stdout[:min(len(res.Stdout), most)]
	res.Stderr = res.Stderr[:min(len(res.Stderr), most)]
	return res, nil
}

// rest reads a stream to its end, given its beginning, if that is not all. The beginning
// is read once more: blocks are counted from the file's start.
func (c command) rest(ctx context.Context, stream string, beginning []byte, lost bool) ([]byte, error) {
	if !lost && (len(beginning) < c.inline() || len(beginning) >= c.most) {
		return beginning, nil
	}
	var out []byte
	for n := 0; len(out) < c.most; n++ {
		block, err := c.agent.script(ctx, c.id, readScript, c.tag, stream, strconv.Itoa(chunk), strconv.Itoa(n))
		if err != nil {
			return nil, fmt.Errorf("read the output: %w", err)
		}
		out = append(out, block...)
		if len(block) != chunk {
			break
		}
	}
	return out, nil
}

// kill ends the session of a command whose end is not known, because of cause.
func (c command) kill(ctx context.Context, pid int, cause error) error {
	if errdefs.IsNotFound(cause) || errdefs.IsFailedPrecondition(cause) {
		return nil // the guest is off
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	if _, err := c.agent.script(ctx, c.id, killScript, strconv.Itoa(pid), c.tag); err != nil {
		return fmt.Errorf("the command may still run, since killing it failed: %w", err)
	}
	// The agent remembers a process until it was asked for its end.
	if _, err := c.agent.wait(ctx, c.id, pid); err != nil && !errors.Is(err, errRefused) {
		return fmt.Errorf("the command was killed, but its end was not seen: %w", err)
	}
	return nil
}

// clean removes the files of a command that has ended.
func (c command) clean(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	if _, err := c.agent.script(ctx, c.id, cleanScript, c.tag); err != nil {
		return fmt.Errorf("files %s.* are left in the guest: %s: %w", c.tag, err.Error(), errdefs.ErrUnavailable)
	}
	return nil
}
