// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

func resultIsExact(t *testing.T, env GuestEnv) {
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
		r := mustRun(t, env, "/bin/sh", "-c", tc.script)
		if r.stdout.String() != tc.stdout || r.stderr.String() != tc.stderr || r.code != tc.code {
			t.Errorf("%s: %q, %q, %d", tc.script, &r.stdout, &r.stderr, r.code)
		}
	}
}

func argumentsAreNotInterpreted(t *testing.T, env GuestEnv) {
	args := []string{
		"", " ", "a b", `"`, `'`, `\`, "\\n", "$HOME", "$(id)", "`id`", "*", "a\nb", "-n", "--", ";", "&&", "|", ">", "#", "%s", "ü", "!!",
	}
	r := mustRun(t, env, append([]string{"/bin/sh", "-c", `for a; do printf '%s\000' "$a"; done`, "sh"}, args...)...)
	if got, want := r.stdout.String(), strings.Join(args, "\x00")+"\x00"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func environmentReachesProcess(t *testing.T, env GuestEnv) {
	r := mustRunProcess(t, env, vm.Process{
		Args:       []string{"/bin/sh", "-c", `printf '%s|%s|%s|%s' "$GREETING" "$EMPTY" "$(pwd)" "$PATH"`},
		Env:        []vm.EnvVar{{Name: "GREETING", Value: "a 'b' \"c\"\n$d"}, {Name: "EMPTY"}},
		WorkingDir: "/",
	}, nil)
	if got := r.stdout.String(); !strings.HasPrefix(got, "a 'b' \"c\"\n$d||/|/") {
		t.Errorf("got %q", got)
	}
}

func muchOutputIsWhole(t *testing.T, env GuestEnv) {
	const size = 3<<20 + 1
	r := mustRun(t, env, "/bin/sh", "-c", "head -c 3145729 /dev/zero & head -c 3145729 /dev/zero >&2; wait")
	want := make([]byte, size)
	if !bytes.Equal(r.stdout.Bytes(), want) || !bytes.Equal(r.stderr.Bytes(), want) {
		t.Errorf("%d and %d bytes", r.stdout.Len(), r.stderr.Len())
	}
}

func inputReachesProcess(t *testing.T, env GuestEnv) {
	for _, input := range []string{"", "hello\n", strings.Repeat("0123456789abcde\n", 1<<16)} {
		r := mustRunProcess(t, env, vm.Process{Args: []string{"cat"}}, []byte(input))
		if r.stdout.String() != input {
			t.Errorf("of %d bytes %d came back", len(input), r.stdout.Len())
		}
	}
}

func unknownProcessHasACode(t *testing.T, env GuestEnv) {
	if r := mustRun(t, env, "/nowhere/nothing"); r.code != 127 || r.stderr.Len() == 0 {
		t.Errorf("got %d, %q", r.code, &r.stderr)
	}
}

func noProcessIsInvalid(t *testing.T, env GuestEnv) {
	if _, err := env.Guest.Exec(t.Context(), env.Answering, vm.Process{}, vm.Streams{}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("got %v", err)
	}
}

// family starts a child, tells that both run, and stays.
const family = `sleep 1000 & echo $$ $! >"$0"; mv "$0" "$1"; wait`

// isKilled runs family under ctx, calls end once it runs, and looks that nothing of it is left.
func isKilled(ctx context.Context, t *testing.T, env GuestEnv, end func(), class func(error) bool) {
	t.Helper()
	mustAwait(t, env)
	ended := make(chan error, 1)
	told := env.Dir + "/pids"
	go func() {
		_, err := env.Guest.Exec(ctx, env.Answering, vm.Process{Args: []string{"/bin/sh", "-c", family, told + ".part", told}}, vm.Streams{})
		ended <- err
	}()
	awaitFile(t, env, told)
	pids := strings.TrimSpace(mustRun(t, env, "cat", told).stdout.String())
	end()
	if err := <-ended; !class(err) {
		t.Errorf("got %v", err)
	}
	noneIsLeft(t, env, pids)
}

// noneIsLeft looks for processes. A zombie is dead, whoever adopted it may be slow to say so,
// and one that was killed takes a moment to die.
func noneIsLeft(t *testing.T, env GuestEnv, pids string) {
	t.Helper()
	const look = `for p in $0; do read -r line </proc/$p/stat && case $line in *") Z "*) ;; *) echo "$line" ;; esac; done 2>/dev/null; :`
	for deadline := time.Now().Add(2 * time.Second); ; {
		left := mustRun(t, env, "/bin/sh", "-c", look, pids)
		if left.stdout.Len() == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("of %s these are left: %s", pids, &left.stdout)
			return
		}
	}
}

func deadlineKills(t *testing.T, env GuestEnv) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	isKilled(ctx, t, env, func() {}, errdefs.IsDeadlineExceeded)
}

func cancelKills(t *testing.T, env GuestEnv) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	isKilled(ctx, t, env, cancel, errdefs.IsCanceled)
}

// failing is an output that nobody reads any more.
type failing struct{}

var errFailing = errors.New("nobody reads this")

// Write implements io.Writer.
func (failing) Write([]byte) (int, error) { return 0, errFailing }

func failedOutputKills(t *testing.T, env GuestEnv) {
	told := env.Dir + "/pid"
	_, err := env.Guest.Exec(t.Context(), env.Answering, vm.Process{
		Args: []string{"/bin/sh", "-c", `echo $$ >"$0"; echo hello; exec sleep 1000`, told},
	}, vm.Streams{Stdout: failing{}})
	if !errors.Is(err, errFailing) {
		t.Errorf("got %v", err)
	}
	pid := strings.TrimSpace(mustRun(t, env, "cat", told).stdout.String())
	mustRun(t, env, "/bin/sh", "-c", `while read -r line </proc/$0/stat; do case $line in *") Z "*) exit ;; esac; sleep 0.05; done 2>/dev/null`, pid)
}

// gated is an output that takes nothing until it is opened.
type gated struct {
	open  chan struct{}
	wrote chan struct{}
}

// Write implements io.Writer.
func (g gated) Write(p []byte) (int, error) {
	select {
	case g.wrote <- struct{}{}:
	default:
	}
	<-g.open
	return len(p), nil
}

func stalledReaderHoldsUpNobody(t *testing.T, env GuestEnv) {
	out := gated{make(chan struct{}), make(chan struct{}, 1)}
	ended := make(chan error, 1)
	go func() {
		_, err := env.Guest.Exec(t.Context(), env.Answering, vm.Process{Args: []string{"head", "-c", "4194304", "/dev/zero"}}, vm.Streams{Stdout: out})
		ended <- err
	}()
	<-out.wrote
	for range 3 {
		mustRun(t, env, "true")
	}
	close(out.open)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func processesOverlap(t *testing.T, env GuestEnv) {
	gate := env.Dir + "/gate"
	ended := make(chan error, 1)
	go func() {
		_, err := env.Guest.Exec(t.Context(), env.Answering, vm.Process{
			Args: []string{"/bin/sh", "-c", `until [ -e "$0" ]; do sleep 0.05; done; rm -f "$0"`, gate},
		}, vm.Streams{})
		ended <- err
	}()
	mustRun(t, env, "/bin/sh", "-c", `: >"$0"`, gate)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
