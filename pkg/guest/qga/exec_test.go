// SPDX-License-Identifier: Apache-2.0

package qga

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/goleak"

	"github.com/vmlet/vmlet/pkg/vm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shells are those that guests have for /bin/sh.
func shells(t *testing.T) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	for name, argv := range map[string][]string{"dash": {"dash"}, "bash": {"bash", "--posix"}, "busybox": {"busybox", "sh"}} {
		if _, err := exec.LookPath(argv[0]); err == nil {
			found[name] = argv
		}
	}
	if len(found) == 0 {
		t.Skip("no shell that guests have")
	}
	return found
}

func TestAgentKeepsTheContractInEveryShell(t *testing.T) {
	for name, argv := range shells(t) {
		t.Run(name, func(t *testing.T) {
			runContract(t, func(t *testing.T) guests {
				t.Helper()
				h := newHost()
				h.shell, h.intercept = argv, silent("silent")
				t.Cleanup(func() { leavesNothing(t, h) })
				return guests{Agent: New(h), Answering: "a", Silent: "silent", Dir: t.TempDir()}
			})
		})
	}
}

// leavesNothing looks for files of commands, and for processes that the agent remembers.
// The removal of files is not waited for by Exec.
func leavesNothing(t *testing.T, h *host) {
	t.Helper()
	if left := h.remembered(); len(left) != 0 {
		t.Errorf("the agent remembers %v", left)
	}
	var left []string
	for range 200 {
		if left = h.files(t); left == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%v are left", left)
}

// files are those of the commands that were sent.
func (h *host) files(t *testing.T) []string {
	t.Helper()
	tags := map[string]bool{}
	h.mu.Lock()
	for _, r := range h.executed {
		if tag := tagIn(fmt.Sprintf("%s", r.Arguments)); tag != "" {
			tags[tag] = true
		}
	}
	h.mu.Unlock()
	var found []string
	for _, dir := range []string{"/tmp", "/run"} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if tag, _, ok := strings.Cut(e.Name(), "."); ok && tags[tag] {
				found = append(found, e.Name())
			}
		}
	}
	return found
}

func tagIn(arguments string) string {
	at := strings.LastIndex(arguments, `"vmlet-`)
	if at < 0 {
		return ""
	}
	return arguments[at+1:][:len(newTag())]
}

func mustExec(t *testing.T, a *Agent, req vm.ExecRequest) vm.ExecResult {
	t.Helper()
	res, err := a.Exec(t.Context(), "a", req)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestOutputIsExactAroundTheSizesOfItsParts(t *testing.T) {
	h := newHost()
	defer leavesNothing(t, h)
	a := New(h)
	data := make([]byte, 2*chunk+1)
	rand.Read(data)
	file := filepath.Join(t.TempDir(), "data")
	for _, size := range []int{1, inlineOutput - 1, inlineOutput, inlineOutput + 1, chunk - 1, chunk, chunk + 1, len(data)} {
		if err := os.WriteFile(file, data[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		res := mustExec(t, a, vm.ExecRequest{Command: []string{"sh", "-c", `cat "$0"; tac "$0" >&2`, file}, MaxOutput: 16 << 20})
		if !bytes.Equal(res.Stdout, data[:size]) {
			t.Errorf("%d bytes: got %d others", size, len(res.Stdout))
		}
		if len(res.Stderr) != size {
			t.Errorf("%d bytes: %d on stderr", size, len(res.Stderr))
		}
	}
}

func TestOutputThatLooksLikeAReportIsOutput(t *testing.T) {
	a := New(newHost())
	const text = "\nvmlet-0123456789abcdef0123456789abcdef 9 1\n"
	if res := mustExec(t, a, vm.ExecRequest{Command: []string{"printf", text}, MaxOutput: 1000}); string(res.Stdout) != text || res.ExitCode != 0 {
		t.Errorf("got %q, %d", res.Stdout, res.ExitCode)
	}
}

func TestOutputOfACommandThatKillsItsGroupIsKept(t *testing.T) {
	h := newHost()
	defer leavesNothing(t, h)
	a := New(h)
	for script, code := range map[string]int32{
		`printf out; printf err >&2; kill 0; sleep 1000`:       128 + 15,
		`printf out; printf err >&2; kill -KILL 0; sleep 1000`: 128 + 9,
	} {
		res := mustExec(t, a, vm.ExecRequest{Command: []string{"sh", "-c", script}, MaxOutput: 1000})
		if string(res.Stdout) != "out" || string(res.Stderr) != "err" || res.ExitCode != code {
			t.Errorf("%s: %q, %q, %d", script, res.Stdout, res.Stderr, res.ExitCode)
		}
	}
}

func TestOutputOfACommandThatRemovesItsFilesIsKept(t *testing.T) {
	res := mustExec(t, New(newHost()), vm.ExecRequest{
		Command:   []string{"sh", "-c", `rm "$(readlink /proc/$$/fd/1)" "$(readlink /proc/$$/fd/2)"; printf out; printf err >&2`},
		MaxOutput: 1000,
	})
	if string(res.Stdout) != "out" || string(res.Stderr) != "err" {
		t.Errorf("got %q, %q", res.Stdout, res.Stderr)
	}
}

func TestCommandsFindWhatContainersFind(t *testing.T) {
	a := New(newHost())
	res := mustExec(t, a, vm.ExecRequest{
		Command:   []string{"sh", "-c", `umask; echo "$HOME $PATH"; trap; tr '\0' '\n' </proc/self/environ | grep -c vmlet; readlink /proc/$$/fd/[345]`},
		MaxOutput: 1000,
	})
	want := "0022\n/root " + defaultEnv[0].Value + "\n0\n"
	if got := string(res.Stdout); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	res = mustExec(t, a, vm.ExecRequest{
		Command: []string{"/bin/sh", "-c", `echo "$HOME $PATH"`},
		Env:     []vm.EnvVar{{Name: "PATH", Value: "/nowhere"}, {Name: "HOME", Value: "/h"}}, MaxOutput: 1000,
	})
	if got := string(res.Stdout); got != "/h /nowhere\n" {
		t.Errorf("got %q", got)
	}
	// What the shell has built in is not what was asked for.
	if res = mustExec(t, a, vm.ExecRequest{Command: []string{"exit", "3"}}); res.ExitCode != 127 {
		t.Errorf("exit: code %d", res.ExitCode)
	}
}

func TestEnvironmentIsNoArgument(t *testing.T) {
	h := newHost()
	mustExec(t, New(h), vm.ExecRequest{Command: []string{"true"}, Env: []vm.EnvVar{{Name: "TOKEN", Value: "hunter2"}}})
	for _, r := range h.executed {
		before, _, _ := strings.Cut(fmt.Sprintf("%s", r.Arguments), `"env":`)
		if strings.Contains(before, "hunter2") {
			t.Errorf("%s shows a value to every user of the guest", r.Execute)
		}
	}
}

func TestRequestsThatCannotBeSent(t *testing.T) {
	h := newHost()
	for name, req := range map[string]vm.ExecRequest{
		"an empty program":    {Command: []string{""}},
		"a zero byte":         {Command: []string{"a\x00b"}},
		"a nameless variable": {Command: []string{"a"}, Env: []vm.EnvVar{{Value: "hunter2"}}},
		"an odd name":         {Command: []string{"a"}, Env: []vm.EnvVar{{Name: "a=b", Value: "hunter2"}}},
		"an odd value":        {Command: []string{"a"}, Env: []vm.EnvVar{{Name: "a", Value: "hunter2\x00"}}},
		"too much":            {Command: []string{strings.Repeat("x", maxCommand+1)}},
	} {
		_, err := New(h).Exec(t.Context(), "a", req)
		if !errdefs.IsInvalidArgument(err) || strings.Contains(err.Error(), "hunter2") || len(err.Error()) > 300 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(h.executed) != 0 {
		t.Errorf("sent %v", h.executed)
	}
}

func TestACommandIsStartedAtMostOnce(t *testing.T) {
	h := newHost()
	h.intercept = func(_ context.Context, _, execute string) (string, error, bool) {
		return "", fmt.Errorf("no answer: %w", errdefs.ErrUnavailable), execute == "guest-exec"
	}
	_, err := New(h).Exec(t.Context(), "a", vm.ExecRequest{Command: []string{"true"}})
	if !errdefs.IsUnavailable(err) || h.count("guest-exec") != 1 {
		t.Errorf("%d times, %v", h.count("guest-exec"), err)
	}
}

func TestAStartThatIsNeverAnsweredIsUnavailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &canned{answer: func(ctx context.Context, _, execute string) (string, error) {
			if execute == "guest-ping" {
				return `{"return":{}}`, nil
			}
			<-ctx.Done()
			return "", ctx.Err()
		}}
		_, err := New(h).Exec(t.Context(), "a", vm.ExecRequest{Command: []string{"true"}})
		if !errdefs.IsUnavailable(err) || errdefs.IsDeadlineExceeded(err) {
			t.Errorf("got %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = New(h).Exec(ctx, "a", vm.ExecRequest{Command: []string{"true"}})
		if !errdefs.IsDeadlineExceeded(err) || errdefs.IsUnavailable(err) {
			t.Errorf("past the caller's deadline: %v", err)
		}
	})
}

func TestACommandWhoseStartOutlivesTheCallerIsKilled(t *testing.T) {
	h := newHost()
	defer leavesNothing(t, h)
	ctx, cancel := context.WithCancel(t.Context())
	h.intercept = func(_ context.Context, _, execute string) (string, error, bool) {
		if execute == "guest-exec" {
			cancel()
		}
		return "", nil, false
	}
	_, err := New(h).Exec(ctx, "a", vm.ExecRequest{Command: []string{"sleep", "1000"}})
	if !errdefs.IsCanceled(err) {
		t.Errorf("got %v", err)
	}
}

func TestAFailedKillIsToldAndKeepsTheClass(t *testing.T) {
	h := newHost()
	started := 0
	h.intercept = func(_ context.Context, _, execute string) (string, error, bool) {
		if execute == "guest-exec" {
			started++
		}
		return "", fmt.Errorf("no answer: %w", errdefs.ErrUnavailable), started == 2
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := New(h).Exec(ctx, "a", vm.ExecRequest{Command: []string{"sleep", "1000"}})
	if !errdefs.IsDeadlineExceeded(err) || errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "may still run") {
		t.Errorf("got %v", err)
	}
	var tag string
	for _, r := range h.executed {
		tag = max(tag, tagIn(fmt.Sprintf("%s", r.Arguments)))
	}
	for _, pid := range h.remembered() {
		if out, err := exec.Command("sh", "-c", killScript, "sh", strconv.Itoa(pid), tag).CombinedOutput(); err != nil {
			t.Fatalf("%s, %v", out, err)
		}
		<-h.processes[pid].ended
	}
}

func TestAGuestThatGoesOffEndsTheCall(t *testing.T) {
	h := newHost()
	h.intercept = func(_ context.Context, _, execute string) (string, error, bool) {
		if execute == "guest-exec" {
			return `{"return":{"pid":4194305}}`, nil, true
		}
		return "", fmt.Errorf("the domain is not active: %w", errdefs.ErrFailedPrecondition), execute != "guest-ping"
	}
	_, err := New(h).Exec(t.Context(), "a", vm.ExecRequest{Command: []string{"true"}})
	if !errdefs.IsFailedPrecondition(err) || h.count("guest-exec") != 1 {
		t.Errorf("got %v", err)
	}
}

func TestRefusalsNameTheRemedy(t *testing.T) {
	const prefix = "internal error: unable to execute QEMU agent command 'guest-exec': "
	for words, tc := range map[string]struct {
		class func(error) bool
		says  string
	}{
		"The command guest-exec has been disabled for this instance":                                                   {errdefs.IsFailedPrecondition, "--allow-rpcs"},
		"The command guest-exec has not been found":                                                                    {errdefs.IsFailedPrecondition, "--allow-rpcs"},
		"Command guest-exec has been disabled: the command is not allowed":                                             {errdefs.IsFailedPrecondition, "/etc/sysconfig/qemu-ga"},
		"Command guest-exec has been disabled: the agent is in frozen state":                                           {errdefs.IsUnavailable, "frozen"},
		"Guest agent command failed, error was 'Failed to execute child process “setsid” (No such file or directory)'": {errdefs.IsFailedPrecondition, "util-linux"},
	} {
		h := newHost()
		h.intercept = func(_ context.Context, _, execute string) (string, error, bool) {
			return "", errors.New(prefix + words), execute == "guest-exec"
		}
		_, err := New(h).Exec(t.Context(), "a", vm.ExecRequest{Command: []string{"true"}})
		if !tc.class(err) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v", words, err)
		}
	}
}

func TestAnImageWithoutAShellIsToldSo(t *testing.T) {
	h := newHost()
	h.shell = []string{"/nowhere/sh"}
	_, err := New(h).Exec(t.Context(), "a", vm.ExecRequest{Command: []string{"true"}})
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "must have /bin/sh") {
		t.Errorf("got %v", err)
	}
}

func TestARestartedAgentIsNotAskedForEver(t *testing.T) {
	h := newHost()
	h.intercept = func(_ context.Context, _, execute string) (string, error, bool) {
		return "", errors.New("Invalid parameter 'pid'"), execute == "guest-exec-status"
	}
	_, err := New(h).Exec(t.Context(), "a", vm.ExecRequest{Command: []string{"true"}})
	if !errdefs.IsAborted(err) || !strings.Contains(err.Error(), "restarted") {
		t.Errorf("got %v", err)
	}
	for _, pid := range h.remembered() {
		<-h.processes[pid].ended
	}
}

func TestAGuestThatBootsIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		booted := time.Now().Add(20 * time.Second)
		h := &canned{answer: func(context.Context, string, string) (string, error) {
			if time.Now().Before(booted) {
				return "", fmt.Errorf("QEMU guest agent is not connected: %w", errdefs.ErrUnavailable)
			}
			return `{"return":{}}`, nil
		}}
		if err := New(h).Await(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		if late := time.Since(booted); late > askMost {
			t.Errorf("the agent was noticed after %v", late)
		}
	})
}

func TestASilentGuestIsExplained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &canned{answer: func(context.Context, string, string) (string, error) {
			return "", fmt.Errorf("QEMU guest agent is not connected: %w", errdefs.ErrUnavailable)
		}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := New(h).Exec(ctx, "a", vm.ExecRequest{Command: []string{"true"}})
		if !errdefs.IsDeadlineExceeded(err) || errdefs.IsUnavailable(err) ||
			!strings.Contains(err.Error(), "is qemu-guest-agent installed and running in the image?") {
			t.Errorf("got %v", err)
		}
	})
}

// canned is a Transport whose answers are given.
type canned struct {
	answer func(ctx context.Context, id, execute string) (string, error)
}

// Command implements Transport.
func (c *canned) Command(ctx context.Context, id string, cmd []byte) ([]byte, error) {
	_, execute, _ := strings.Cut(string(cmd), `{"execute":"`)
	execute, _, _ = strings.Cut(execute, `"`)
	answer, err := c.answer(ctx, id, execute)
	return []byte(answer), err
}

func TestHungAgentsDoNotHoldUpOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &canned{answer: func(ctx context.Context, id, _ string) (string, error) {
			if id == "good" {
				return `{"return":{}}`, nil
			}
			<-ctx.Done()
			return "", ctx.Err()
		}}
		a := New(h)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		ended := make(chan struct{})
		const hung = 12
		for i := range hung {
			go func() {
				defer func() { ended <- struct{}{} }()
				if err := a.Await(ctx, strconv.Itoa(i)); !errdefs.IsDeadlineExceeded(err) && !errdefs.IsCanceled(err) {
					t.Error(err)
				}
			}()
		}
		time.Sleep(time.Minute)
		var waited time.Duration
		for range 100 {
			began := time.Now()
			if err := a.ping(ctx, "good"); err != nil {
				t.Fatal(err)
			}
			waited += time.Since(began)
			time.Sleep(time.Second)
		}
		if mean := waited / 100; mean > time.Second {
			t.Errorf("a good agent is asked after %v in the mean", mean)
		}
		cancel()
		for range hung {
			<-ended
		}
	})
}

func TestOneCommandPerGuestAndFourOverall(t *testing.T) {
	h := newHost()
	a := New(h)
	ended := make(chan error)
	const guests, each = 6, 3
	for i := range guests * each {
		go func() {
			_, err := a.Exec(t.Context(), strconv.Itoa(i%guests), vm.ExecRequest{Command: []string{"true"}})
			ended <- err
		}()
	}
	for range guests * each {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	for who, most := range h.most {
		limit := 1
		if who == "" {
			limit = commandsInFlight
		}
		if most > limit {
			t.Errorf("%d commands at once to %q", most, who)
		}
	}
}

func TestWaitingForAGuestsTurnEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &canned{answer: func(ctx context.Context, _, _ string) (string, error) {
			<-ctx.Done()
			return "", ctx.Err()
		}}
		a := New(h)
		go func() {
			if err := a.ping(t.Context(), "a"); err == nil {
				t.Error("an agent that hangs answered")
			}
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		began := time.Now()
		if err := a.ping(ctx, "a"); !errdefs.IsDeadlineExceeded(err) || time.Since(began) != 100*time.Millisecond {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
	})
}
