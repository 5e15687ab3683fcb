// SPDX-License-Identifier: Apache-2.0

package qga

import (
	"bytes"
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// guests is an Agent with guests that run real commands.
type guests struct {
	Agent *Agent
	// Answering is a sandbox whose guest has an agent, with a POSIX shell, cat, head and
	// sleep. Silent is one whose guest has none.
	Answering, Silent string
	// Dir is a folder that commands in the answering guest can write to.
	Dir string
}

// runContract is what an Agent promises but for Shutdown's success, which ends the guest.
// open returns a new environment.
func runContract(t *testing.T, open func(t *testing.T) guests) {
	t.Helper()
	for name, run := range map[string]func(*testing.T, guests){
		"stdout, stderr and exit code come back exactly": resultIsExact,
		"arguments reach the command as they are":        argumentsAreNotInterpreted,
		"the environment reaches the command":            environmentReachesCommand,
		"output is cut at its limit":                     outputIsCut,
		"a command that does not exist has a code":       unknownCommandHasACode,
		"no command is InvalidArgument":                  noCommandIsInvalid,
		"at the deadline the command is killed":          deadlineKills,
		"a cancelled call kills the command":             cancelKills,
		"commands in one guest do not wait for another":  commandsOverlap,
		"a silent guest is waited for until the end":     silentGuestIsWaitedFor,
		"a silent guest cannot be shut down":             silentGuestHasNoShutdown,
	} {
		t.Run(name, func(t *testing.T) { run(t, open(t)) })
	}
}

// plenty is more output than the contract's commands make.
const plenty = 16 << 20

func mustRun(t *testing.T, env guests, command ...string) vm.ExecResult {
	t.Helper()
	res, err := env.Agent.Exec(t.Context(), env.Answering, vm.ExecRequest{Command: command, MaxOutput: plenty})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func resultIsExact(t *testing.T, env guests) {
	for _, tc := range []struct {
		script         string
		stdout, stderr string
		code           int32
	}{
		{"exit 0", "", "", 0},
		{"printf hello", "hello", "", 0},
		{`printf 'a\n\n'; printf 'b\000\377\n' >&2; exit 3`, "a\n\n", "b\x00\xff\n", 3},
		{"exit 255", "", "", 255},
		{"kill -TERM $$", "", "", 128 + 15},
		{"printf x; kill -KILL $$", "x", "", 128 + 9},
	} {
		res := mustRun(t, env, "/bin/sh", "-c", tc.script)
		if string(res.Stdout) != tc.stdout || string(res.Stderr) != tc.stderr || res.ExitCode != tc.code {
			t.Errorf("%s: %q, %q, %d", tc.script, res.Stdout, res.Stderr, res.ExitCode)
		}
	}
}

func argumentsAreNotInterpreted(t *testing.T, env guests) {
	args := []string{
		"", " ", "a b", `"`, `'`, `\`, "\\n", "$HOME", "$(id)", "`id`", "*", "a\nb", "-n", "--", ";", "&&", "|", ">", "#", "%s", "ü", "!!",
	}
	res := mustRun(t, env, append([]string{"/bin/sh", "-c", `for a; do printf '%s\000' "$a"; done`, "sh"}, args...)...)
	if got, want := string(res.Stdout), strings.Join(args, "\x00")+"\x00"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func environmentReachesCommand(t *testing.T, env guests) {
	res, err := env.Agent.Exec(t.Context(), env.Answering, vm.ExecRequest{
		Command:   []string{"/bin/sh", "-c", `printf '%s|%s|%s' "$GREETING" "$EMPTY" "$PATH"`},
		Env:       []vm.EnvVar{{Name: "GREETING", Value: "a 'b' \"c\"\n$d"}, {Name: "EMPTY"}},
		MaxOutput: plenty,
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := string(res.Stdout); !strings.HasPrefix(got, "a 'b' \"c\"\n$d||/") {
		t.Errorf("got %q", got)
	}
}

func outputIsCut(t *testing.T, env guests) {
	for _, tc := range []struct{ size, limit int }{
		{0, plenty}, {100, 0}, {100, 99}, {70000, 100}, {70000, plenty}, {2<<20 + 3, 1<<20 + 1}, {2<<20 + 3, plenty},
	} {
		res, err := env.Agent.Exec(t.Context(), env.Answering, vm.ExecRequest{
			Command:   []string{"/bin/sh", "-c", "head -c $0 /dev/zero; head -c $0 /dev/zero >&2", strconv.Itoa(tc.size)},
			MaxOutput: tc.limit,
		})
		if err != nil {
			t.Fatal(err)
		}
		want := make([]byte, min(tc.size, tc.limit))
		if !bytes.Equal(res.Stdout, want) || !bytes.Equal(res.Stderr, want) {
			t.Errorf("%d bytes with limit %d: %d and %d", tc.size, tc.limit, len(res.Stdout), len(res.Stderr))
		}
	}
}

func unknownCommandHasACode(t *testing.T, env guests) {
	if res := mustRun(t, env, "/nowhere/nothing"); res.ExitCode != 127 || len(res.Stderr) == 0 {
		t.Errorf("got %d, %q", res.ExitCode, res.Stderr)
	}
}

func noCommandIsInvalid(t *testing.T, env guests) {
	if _, err := env.Agent.Exec(t.Context(), env.Answering, vm.ExecRequest{}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("got %v", err)
	}
}

// family starts a child, tells that both run, and stays.
const family = `sleep 1000 & echo $$ $! >"$0"; mv "$0" "$1"; wait`

// isKilled runs family under ctx, calls end once it runs, and looks that nothing of it is left.
func isKilled(ctx context.Context, t *testing.T, env guests, end func(), class func(error) bool) {
	t.Helper()
	ended := make(chan error, 1)
	told := env.Dir + "/pids"
	go func() {
		_, err := env.Agent.Exec(ctx, env.Answering, vm.ExecRequest{
			Command: []string{"/bin/sh", "-c", family, told + ".part", told}, MaxOutput: plenty,
		})
		ended <- err
	}()
	pids := strings.TrimSpace(string(mustRun(t, env, "/bin/sh", "-c", `until [ -e "$0" ]; do sleep 0.1; done; cat "$0"`, told).Stdout))
	end()
	if err := <-ended; !class(err) {
		t.Errorf("got %v", err)
	}
	// A zombie is dead, and whoever adopted it may be slow to say so.
	left := mustRun(t, env, "/bin/sh", "-c",
		`for p in $0; do read -r line </proc/$p/stat && case $line in *") Z "*) ;; *) echo "$line" ;; esac; done 2>/dev/null; rm -f "$1"`, pids, told)
	if len(left.Stdout) != 0 {
		t.Errorf("of %s these are left: %s", pids, left.Stdout)
	}
}

func deadlineKills(t *testing.T, env guests) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	isKilled(ctx, t, env, func() {}, errdefs.IsDeadlineExceeded)
}

func cancelKills(t *testing.T, env guests) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	isKilled(ctx, t, env, cancel, errdefs.IsCanceled)
}

func commandsOverlap(t *testing.T, env guests) {
	gate := env.Dir + "/gate"
	ended := make(chan error, 1)
	go func() {
		_, err := env.Agent.Exec(t.Context(), env.Answering, vm.ExecRequest{
			Command: []string{"/bin/sh", "-c", `until [ -e "$0" ]; do sleep 0.1; done; rm -f "$0"`, gate},
		})
		ended <- err
	}()
	mustRun(t, env, "/bin/sh", "-c", `: >"$0"`, gate)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func silentGuestIsWaitedFor(t *testing.T, env guests) {
	const patience = 300 * time.Millisecond
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := env.Agent.Exec(ctx, env.Silent, vm.ExecRequest{Command: []string{"true"}})
	if !errdefs.IsDeadlineExceeded(err) {
		t.Errorf("got %v", err)
	}
	if waited := time.Since(began); waited < patience {
		t.Errorf("it gave up after %v", waited)
	}
}

func silentGuestHasNoShutdown(t *testing.T, env guests) {
	if err := env.Agent.Shutdown(t.Context(), env.Silent); !errdefs.IsUnavailable(err) {
		t.Errorf("got %v", err)
	}
}
