// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const entry = "2026-01-02T03:04:05.000000006Z stdout F "

func writeLog(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

func TestLogs(t *testing.T) {
	folder := t.TempDir()
	w := newWorld(t)
	w.addPods(folder)
	writeLog(t, filepath.Join(folder, short(webBoot2)+".log"), entry+"a\n"+entry+"b\n"+entry+"c\n")
	writeLog(t, filepath.Join(folder, short(webBoot1)+".log"), entry+"the first boot\n")
	for want, args := range map[string][]string{
		"a\nb\nc\n":        {"logs", "web"},
		"b\nc\n":           {"logs", "web", "--tail", "2"},
		"":                 {"logs", "web", "--tail", "0"},
		"the first boot\n": {"logs", webBoot1},
	} {
		got := w.ctl(t, args...)
		got.wantOK(t)
		if got.stdout != want {
			t.Errorf("%q: got %q", args, got.stdout)
		}
	}
}

func TestLogsThatCannotBeRead(t *testing.T) {
	folder := t.TempDir()
	w := newWorld(t)
	w.addPods(filepath.Join(folder, "elsewhere"))
	for _, args := range [][]string{{"logs", "web"}, {"logs", "-f", "web"}} {
		w.ctl(t, args...).wantError(t, exitFailed, filepath.Join(folder, "elsewhere", short(webBoot2)+".log")+" is not there", "run vmletctl where vmlet runs")
	}
	w.ctl(t, "logs", "bare").wantError(t, exitFailed, "default/bare has no container")
	w.change(webBoot2, func(s *runtimeapi.ContainerStatus) { s.LogPath = "" })
	w.ctl(t, "logs", "web").wantError(t, exitFailed, "default/web has no log")
	w.change(webBoot2, func(s *runtimeapi.ContainerStatus) { s.LogPath = folder })
	w.ctl(t, "logs", "web").wantError(t, exitFailed, "read the log")
}

// following runs "logs -f" on web and gives what it prints.
func following(ctx context.Context, t *testing.T, w *world) (lines *bufio.Scanner, code <-chan int) {
	t.Helper()
	r, out := io.Pipe()
	a := &app{
		in: nil, out: out, err: out, poll: time.Millisecond, now: time.Now,
		env: func(key string) string { return map[string]string{addressEnv: w.socket}[key] },
	}
	ended := make(chan int, 1)
	go func() {
		ended <- a.run(ctx, []string{"logs", "-f", "web"})
		out.Close() //nolint:errcheck // never fails
	}()
	watchdog := time.AfterFunc(20*time.Second, func() { r.CloseWithError(context.DeadlineExceeded) })
	t.Cleanup(func() { watchdog.Stop() })
	return bufio.NewScanner(r), ended
}

func wantLine(t *testing.T, lines *bufio.Scanner, want string) {
	t.Helper()
	if !lines.Scan() || lines.Text() != want {
		t.Fatalf("got %q, %v, want %q", lines.Text(), lines.Err(), want)
	}
}

func TestLogsFollowUntilTheVMEnds(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, short(webBoot2)+".log")
	w := newWorld(t)
	w.addPods(folder)
	writeLog(t, path, entry+"a\n")
	lines, code := following(t.Context(), t, w)
	wantLine(t, lines, "a")
	// vmlet is restarted meanwhile, and the log rotated.
	w.fail("ContainerStatus", codes.Unavailable, "vmlet is starting")
	writeLog(t, path, entry+"b\n")
	wantLine(t, lines, "b")
	w.on("ContainerStatus", nil)
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	writeLog(t, path, entry+"c\n")
	wantLine(t, lines, "c")
	writeLog(t, path, entry+"last words\n")
	w.change(webBoot2, func(s *runtimeapi.ContainerStatus) { s.State = runtimeapi.ContainerState_CONTAINER_EXITED })
	wantLine(t, lines, "last words")
	if lines.Scan() {
		t.Errorf("%q is too much", lines.Text())
	}
	if got := <-code; got != exitOK {
		t.Errorf("exit %d", got)
	}
}

func TestLogsFollowUntilTheContainerIsRemoved(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, short(webBoot2)+".log")
	w := newWorld(t)
	w.addPods(folder)
	writeLog(t, path, entry+"a\n")
	lines, code := following(t.Context(), t, w)
	wantLine(t, lines, "a")
	w.on("ContainerStatus", func(context.Context) error { return status.Error(codes.NotFound, "gone") })
	if lines.Scan() {
		t.Errorf("%q is too much", lines.Text())
	}
	if got := <-code; got != exitOK {
		t.Errorf("exit %d", got)
	}
}

func TestLogsFollowUntilInterrupted(t *testing.T) {
	folder := t.TempDir()
	w := newWorld(t)
	w.addPods(folder)
	writeLog(t, filepath.Join(folder, short(webBoot2)+".log"), entry+"a\n")
	ctx, cancel := context.WithCancel(t.Context())
	lines, code := following(ctx, t, w)
	wantLine(t, lines, "a")
	cancel()
	if lines.Scan() {
		t.Errorf("%q is too much", lines.Text())
	}
	if got := <-code; got != exitOK {
		t.Errorf("exit %d", got)
	}
}
