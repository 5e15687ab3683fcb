// SPDX-License-Identifier: Apache-2.0

package qga

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

const (
	// inlineOutput is how much of each stream comes with the end of the command. The rest
	// is read from files in the guest: libvirt gives an agent up for lost that answers
	// with more than 10 MiB.
	inlineOutput = 64 << 10
	// chunk is how much of the rest is read at once.
	chunk = 1 << 20
	// cleanupTimeout bounds what goes on when the caller has left: starting a command, so
	// that it can be found, and killing it.
	cleanupTimeout = 2 * commandTimeout
)

// Exec runs a command in the guest and returns its exit code, 128 and the signal's number
// if a signal ended it, and the first MaxOutput bytes of both its outputs.
//
// It waits for an agent to answer, then starts the command at most once. The command runs
// as root in a session of its own, with the request's environment and a PATH and a HOME if
// the request has none. When ctx ends first, all of the session is killed before Exec
// returns ctx's error. Output waits in files in the guest's /tmp (or /run), so a command
// that writes without end fills them.
func (a *Agent) Exec(ctx context.Context, id string, req vm.ExecRequest) (vm.ExecResult, error) {
	res, err := a.exec(ctx, id, req)
	if err != nil {
		return vm.ExecResult{}, fmt.Errorf("exec in the guest of %s: %w", id, err)
	}
	return res, nil
}

func (a *Agent) exec(ctx context.Context, id string, req vm.ExecRequest) (vm.ExecResult, error) {
	env, err := check(req)
	if err != nil {
		return vm.ExecResult{}, err
	}
	if err := a.Await(ctx, id); err != nil {
		return vm.ExecResult{}, err
	}
	c := command{agent: a, id: id, tag: newTag(), most: req.MaxOutput}
	pid, err := a.start(ctx, id, execArguments{
		Path:          setsid,
		Arg:           append([]string{shell, "-c", runScript, shell, c.tag, strconv.Itoa(c.inline())}, req.Command...),
		Env:           env,
		CaptureOutput: true,
	})
	switch {
	case err != nil && ctx.Err() != nil:
		return vm.ExecResult{}, also(ctx.Err(), err)
	case err != nil:
		return vm.ExecResult{}, err
	}
	status, err := a.wait(ctx, id, pid)
	if err != nil {
		return vm.ExecResult{}, also(err, c.kill(ctx, pid, err))
	}
	res, err := c.collect(ctx, status)
	if err != nil {
		return vm.ExecResult{}, also(err, c.clean(ctx))
	}
	return res, nil
}

// also tells of a second failure without giving the error its class.
func also(err, second error) error {
	if second == nil {
		return err
	}
	return fmt.Errorf("%w (%s)", err, second.Error())
}

// newTag names one command: its files in the guest, and the last line of its output.
func newTag() string {
	random := make([]byte, 16)
	rand.Read(random)
	return "vmlet-" + hex.EncodeToString(random)
}

// start starts a program in the guest and returns its process ID there. It does not end
// with ctx, but soon. After Unavailable the program may run or not.
func (a *Agent) start(ctx context.Context, id string, arguments execArguments) (int, error) {
	detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	var started execStarted
	err := a.command(detached, id, cleanupTimeout, "guest-exec", arguments, &started)
	switch {
	case err != nil && detached.Err() != nil:
		return 0, fmt.Errorf("no answer within %s, the command may run or not: %w", cleanupTimeout, errdefs.ErrUnavailable)
	case err != nil:
		return 0, err
	}
	return started.PID, nil
}

// runScript runs one of the scripts to its end.
func (a *Agent) runScript(ctx context.Context, id, script string, args ...string) (execStatus, error) {
	pid, err := a.start(ctx, id, execArguments{
		Path: shell, Arg: append([]string{"-c", script, shell}, args...), CaptureOutput: true,
	})
	if err != nil {
		return execStatus{}, err
	}
	return a.wait(ctx, id, pid)
}

// script runs one of the scripts to its end and returns what it wrote.
func (a *Agent) script(ctx context.Context, id, script string, args ...string) ([]byte, error) {
	status, err := a.runScript(ctx, id, script, args...)
	if err != nil {
		return nil, err
	}
	if code := status.code(); code != 0 {
		return nil, fmt.Errorf("a script of vmlet failed in the guest with %d: %s: %w", code, printable(string(status.Stderr)), errdefs.ErrInternal)
	}
	return status.Stdout, nil
}
