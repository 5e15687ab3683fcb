// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const pidFileEnv = "REAPER_TEST_PID_FILE"

// TestMain lets the test binary be the reaper, too.
func TestMain(m *testing.M) {
	pidFile, ok := os.LookupEnv(pidFileEnv)
	if !ok {
		os.Exit(m.Run())
	}
	runtime.LockOSThread()
	if err := run(os.Args[1:], pidFile); err != nil {
		panic(err)
	}
}

// reaper is a running reaper, whose command is a shell script that prints process IDs, one a line.
type reaper struct {
	*exec.Cmd
	pidFile string
	out     *bufio.Reader
}

func startReaper(t *testing.T, script string) *reaper {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	r := &reaper{
		Cmd:     exec.CommandContext(ctx, os.Args[0], "sh", "-c", script),
		pidFile: filepath.Join(t.TempDir(), "pid"),
	}
	r.Env = append(os.Environ(), pidFileEnv+"="+r.pidFile)
	out, err := r.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	r.out = bufio.NewReader(out)
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		t.Log("the reaper:", r.Wait())
	})
	return r
}

// pid returns the next process ID that the script prints.
func (r *reaper) pid(t *testing.T) int {
	t.Helper()
	line, err := r.out.ReadString('\n')
	if err != nil {
		t.Fatalf("read from the script: %v", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			t.Errorf("kill %d: %v", pid, err)
		}
	})
	return pid
}

func (r *reaper) signal(t *testing.T, sig unix.Signal) {
	t.Helper()
	if err := r.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// recordedPID returns what the pid file says, or 0 if there is none.
func (r *reaper) recordedPID() int {
	content, err := os.ReadFile(r.pidFile)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil {
		return 0
	}
	return pid
}

// await polls: nothing tells a bystander that a process was reaped or adopted.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// reaped reports whether nothing is left of a process, not even a zombie.
func reaped(pid int) bool { return errors.Is(unix.Kill(pid, 0), unix.ESRCH) }

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatalf("kill %d: %v", pid, err)
	}
}

func parent(t *testing.T, pid int) int {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	// PID (NAME) STATE PARENT ...
	_, rest, _ := strings.Cut(string(stat), ") ")
	ppid, err := strconv.Atoi(strings.Fields(rest)[1])
	if err != nil {
		t.Fatal(err)
	}
	return ppid
}

// leaveOrphan starts a process and leaves it behind, as a daemon does, printing its ID.
const leaveOrphan = `(sleep 100 & echo $!); `

func TestOrphansAreAdoptedAndReaped(t *testing.T) {
	r := startReaper(t, leaveOrphan+"exec sleep 100")
	orphan := r.pid(t)
	await(t, "the orphan is the reaper's", func() bool { return parent(t, orphan) == r.Process.Pid })
	kill(t, orphan)
	await(t, "the orphan is reaped", func() bool { return reaped(orphan) })
}

func TestReaperOutlivesItsCommandAndReapsOn(t *testing.T) {
	r := startReaper(t, leaveOrphan+"echo $$; exec sleep 100")
	orphan, command := r.pid(t), r.pid(t)
	await(t, "the command is recorded", func() bool { return r.recordedPID() == command })
	kill(t, command)
	await(t, "the command's pid file is removed", func() bool { return r.recordedPID() == 0 })
	if got := parent(t, orphan); got != r.Process.Pid {
		t.Errorf("the orphan's parent is %d, want the reaper, %d", got, r.Process.Pid)
	}
	kill(t, orphan)
	await(t, "the orphan is reaped", func() bool { return reaped(orphan) })
}

func TestHangupStartsTheCommandAgainOnceItIsGone(t *testing.T) {
	r := startReaper(t, "echo $$; exec sleep 100")
	first := r.pid(t)
	await(t, "the first command is recorded", func() bool { return r.recordedPID() == first })
	kill(t, first)
	await(t, "the first command's pid file is removed", func() bool { return r.recordedPID() == 0 })
	r.signal(t, unix.SIGHUP)
	second := r.pid(t)
	await(t, "the second command is recorded", func() bool { return r.recordedPID() == second })
	kill(t, second)
	await(t, "the second command is reaped", func() bool { return reaped(second) })
}

func TestHangupStartsNoSecondCommandBesideTheFirst(t *testing.T) {
	r := startReaper(t, "echo $$; exec sleep 100")
	r.pid(t)
	r.signal(t, unix.SIGHUP)
	r.signal(t, unix.SIGTERM)
	rest, err := io.ReadAll(r.out)
	if err != nil {
		t.Fatal(err)
	}
	if len(rest) > 0 {
		t.Errorf("a second command was started: %q", rest)
	}
}

func TestCommandIsAskedToEndWhenTheReaperIsKilled(t *testing.T) {
	r := startReaper(t, `trap 'kill $!; echo $$; exit' TERM; sleep 100 & echo $$; wait`)
	command := r.pid(t)
	r.signal(t, unix.SIGKILL)
	if got := r.pid(t); got != command {
		t.Errorf("%d was asked to end, want %d", got, command)
	}
}

func TestTermEndsTheCommandThenTheReaper(t *testing.T) {
	r := startReaper(t, `trap 'kill $!; exit 3' TERM; sleep 100 & echo $$; wait`)
	command := r.pid(t)
	r.signal(t, unix.SIGTERM)
	if err := r.Wait(); err != nil {
		t.Errorf("the reaper ended with %v", err)
	}
	if !reaped(command) {
		t.Errorf("the command %d is still there", command)
	}
	if r.recordedPID() != 0 {
		t.Error("the pid file is still there")
	}
}

func TestCommandThatDoesNotExistIsAnError(t *testing.T) {
	c := &command{argv: []string{"/no/such/command"}}
	if err := c.start(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want a not-exist error", err)
	}
}
