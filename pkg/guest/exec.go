// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"fmt"
	"io"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// maxOutput is how much of each stream of a command is kept that qemu-guest-agent runs.
const maxOutput = 16 << 20

// Exec runs a process to its end with its streams connected, and returns its exit code. By
// qemu-guest-agent it is a command of root's, without terminal, input or a folder of its own.
func (g *Guest) Exec(ctx context.Context, id string, p vm.Process, s vm.Streams) (exitCode int32, err error) {
	what := beyond(p, s)
	var ours bool
	if what == "" {
		ours, err = g.first(ctx, id, 0)
	} else {
		ours, err = true, g.need(ctx, id, what)
	}
	if err == nil && !ours {
		return g.execPlain(ctx, id, p, s)
	}
	if err == nil {
		exitCode, err = g.agents.Exec(ctx, id, p, s)
	}
	return exitCode, wrap("exec in the guest of", id, err)
}

// beyond names what qemu-guest-agent cannot do for a process, "" for nothing.
func beyond(p vm.Process, s vm.Streams) string {
	switch {
	case p.TTY:
		return "a terminal"
	case s.Stdin != nil:
		return "standard input"
	case p.WorkingDir != "":
		return "a working directory"
	case p.Security != nil:
		return "a security context"
	case p.Namespace != "":
		return "a command in the container's namespace"
	}
	return ""
}

// execPlain runs a command by qemu-guest-agent, whose output comes when it has ended.
func (g *Guest) execPlain(ctx context.Context, id string, p vm.Process, s vm.Streams) (int32, error) {
	res, err := g.qga.Exec(ctx, id, vm.ExecRequest{Command: p.Args, Env: p.Env, MaxOutput: maxOutput})
	if err != nil {
		return 0, err
	}
	for _, out := range []struct {
		to   io.Writer
		data []byte
	}{{s.Stdout, res.Stdout}, {s.Stderr, res.Stderr}} {
		if out.to == nil || len(out.data) == 0 {
			continue
		}
		if _, err := out.to.Write(out.data); err != nil {
			return 0, fmt.Errorf("write the command's output: %w: %w", err, errdefs.ErrUnavailable)
		}
	}
	return res.ExitCode, nil
}
