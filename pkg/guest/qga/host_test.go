// SPDX-License-Identifier: Apache-2.0

package qga

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"sync"
	"syscall"

	"github.com/containerd/errdefs"
)

// host is a Transport to an agent that is a part of this test and runs its commands on
// this host: what the scripts do is real.
type host struct {
	// shell runs instead of /bin/sh, if set.
	shell []string
	// intercept may answer in the agent's place; it does if it returns true.
	intercept func(ctx context.Context, id, execute string) (answer string, err error, does bool)

	mu        sync.Mutex
	executed  []request
	processes map[int]*process
	busy      map[string]int
	most      map[string]int // of busy; "" is all guests together
}

type process struct {
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
	ended          chan struct{}
}

func newHost() *host {
	return &host{processes: map[int]*process{}, busy: map[string]int{}, most: map[string]int{}}
}

// wire is a command as an agent reads it.
type wire struct {
	Execute   string          `json:"execute"`
	Arguments json.RawMessage `json:"arguments"`
}

// Command implements Transport.
func (h *host) Command(ctx context.Context, id string, cmd []byte) ([]byte, error) {
	defer h.enter(id)()
	var w wire
	if err := json.Unmarshal(cmd, &w); err != nil {
		return nil, err
	}
	h.mu.Lock()
	h.executed = append(h.executed, request{Execute: w.Execute, Arguments: w.Arguments})
	h.mu.Unlock()
	if h.intercept != nil {
		if answer, err, does := h.intercept(ctx, id, w.Execute); does {
			return []byte(answer), err
		}
	}
	result, err := h.execute(w)
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string]any{"return": result})
}

func (h *host) enter(id string) (leave func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, who := range []string{id, ""} {
		h.busy[who]++
		h.most[who] = max(h.most[who], h.busy[who])
	}
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.busy[id]--
		h.busy[""]--
	}
}

func (h *host) execute(w wire) (any, error) {
	switch w.Execute {
	case "guest-ping":
		return struct{}{}, nil
	case "guest-exec":
		var args execArguments
		if err := json.Unmarshal(w.Arguments, &args); err != nil {
			return nil, err
		}
		return h.start(args)
	case "guest-exec-status":
		var args execStarted
		if err := json.Unmarshal(w.Arguments, &args); err != nil {
			return nil, err
		}
		return h.status(args.PID)
	}
	return nil, fmt.Errorf("internal error: unable to execute QEMU agent command '%s': The command %[1]s has not been found", w.Execute)
}

func (h *host) start(args execArguments) (any, error) {
	argv := append([]string{args.Path}, args.Arg...)
	if at := slices.Index(argv, shell); at >= 0 && at < 2 && h.shell != nil {
		argv = slices.Replace(argv, at, at+1, h.shell...)
	}
	p := &process{cmd: exec.Command(argv[0], argv[1:]...), ended: make(chan struct{})}
	p.cmd.Env = args.Env
	if args.CaptureOutput {
		p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("internal error: unable to execute QEMU agent command 'guest-exec': Guest agent command failed, "+
			"error was 'Failed to execute child process “%s” (No such file or directory)'", argv[0])
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.processes[p.cmd.Process.Pid] = p
	go func() {
		defer close(p.ended)
		if err := p.cmd.Wait(); err != nil && !errors.As(err, new(*exec.ExitError)) {
			panic(err)
		}
	}()
	return execStarted{PID: p.cmd.Process.Pid}, nil
}

func (h *host) status(pid int) (any, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.processes[pid]
	if p == nil {
		return nil, errors.New("internal error: unable to execute QEMU agent command 'guest-exec-status': Invalid parameter 'pid'")
	}
	select {
	case <-p.ended:
	default:
		return map[string]any{"exited": false}, nil
	}
	delete(h.processes, pid)
	status := map[string]any{"exited": true, "out-data": p.stdout.Bytes(), "err-data": p.stderr.Bytes()}
	ws, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok {
		return nil, errors.New("no wait status")
	}
	if ws.Signaled() {
		status["signal"] = int(ws.Signal())
	} else {
		status["exitcode"] = ws.ExitStatus()
	}
	return status, nil
}

// count tells how often a command was sent.
func (h *host) count(execute string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, r := range h.executed {
		if r.Execute == execute {
			n++
		}
	}
	return n
}

// remembered are the processes whose end nobody asked for.
func (h *host) remembered() []int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Collect(maps.Keys(h.processes))
}

// silent is an intercept that makes the guests with these IDs have no agent.
func silent(ids ...string) func(context.Context, string, string) (string, error, bool) {
	return func(_ context.Context, id, _ string) (string, error, bool) {
		if slices.Contains(ids, id) {
			return "", fmt.Errorf("QEMU guest agent is not connected: %w", errdefs.ErrUnavailable), true
		}
		return "", nil, false
	}
}
