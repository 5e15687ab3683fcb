// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// newTerminal makes a terminal as QEMU does: it has the one side, the path is the other's.
func newTerminal(t *testing.T) (qemu *os.File, path string) {
	t.Helper()
	qemu, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no terminals here: ", err)
	}
	t.Cleanup(func() { _ = qemu.Close() }) //nolint:errcheck // closed by some tests
	raw, err := qemu.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := raw.Control(func(fd uintptr) {
		if err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err == nil {
			n, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return qemu, fmt.Sprint("/dev/pts/", n)
}

func sender(t *testing.T, linger time.Duration) *Consoles {
	t.Helper()
	return newRoom(t).consoles(func(cs *Consoles) { cs.limits.linger = linger })
}

func TestWhatIsTypedReachesTheConsoleAsItIs(t *testing.T) {
	qemu, path := newTerminal(t)
	sent := make(chan error, 1)
	go func() {
		sent <- sender(t, 50*time.Millisecond).SendInput(t.Context(), path, strings.NewReader("ls\n\x03\x04\xff"))
	}()
	got := make([]byte, 6)
	if _, err := io.ReadFull(qemu, got); err != nil || string(got) != "ls\n\x03\x04\xff" {
		t.Errorf("typed %q, %v", got, err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

// QEMU stops the guest when nobody reads what it writes to a terminal that is open.
func TestAnOpenConsoleIsReadAndNothingIsEchoed(t *testing.T) {
	qemu, path := newTerminal(t)
	ctx, cancel := context.WithCancel(t.Context())
	stdin, typing := io.Pipe()
	sent := make(chan error, 1)
	go func() { sent <- sender(t, time.Second).SendInput(ctx, path, stdin) }()
	if _, err := typing.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	flood := strings.Repeat("output of the guest\r\n", 10000)
	written := make(chan error, 1)
	go func() {
		_, err := qemu.WriteString(flood)
		written <- err
	}()
	select {
	case err := <-written:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the guest is held up")
	}
	if _, err := typing.Write([]byte("y")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 2)
	if _, err := io.ReadFull(qemu, got); err != nil || string(got) != "xy" {
		t.Errorf("typed %q, %v", got, err)
	}
	cancel()
	_ = typing.Close() //nolint:errcheck // the client has gone
	if err := <-sent; !errors.Is(err, context.Canceled) {
		t.Errorf("SendInput: %v, want the context's error", err)
	}
}

func TestAConsoleThatGoesIsUnavailable(t *testing.T) {
	qemu, path := newTerminal(t)
	stdin, typing := io.Pipe()
	sent := make(chan error, 1)
	go func() { sent <- sender(t, time.Second).SendInput(t.Context(), path, stdin) }()
	if _, err := typing.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(qemu, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := qemu.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := typing.Write([]byte("y")); err != nil {
		t.Fatal(err)
	}
	if err := <-sent; !errdefs.IsUnavailable(err) {
		t.Errorf("SendInput: %v, want Unavailable", err)
	}
}

func TestOnlyATerminalIsAConsole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := sender(t, 0).SendInput(t.Context(), path, strings.NewReader("x")); err == nil || !strings.Contains(err.Error(), "no terminal") {
		t.Errorf("SendInput: %v", err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "precious" {
		t.Errorf("the file says %q, %v", got, err)
	}
}
