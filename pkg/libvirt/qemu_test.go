// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// child is a process of ours behind the qemu type: `cat` with one end of a socket pair as
// its standard streams. peer is the other end. It is reaped as soon as it ends.
func child(t *testing.T) (q *qemu, peer net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs, ours := os.NewFile(uintptr(fds[0]), "theirs"), os.NewFile(uintptr(fds[1]), "ours")
	peer, err = net.FileConn(ours)
	if err != nil {
		t.Fatal(err)
	}
	closeAll(t, ours)
	cmd := exec.Command("cat")
	cmd.Stdin, cmd.Stdout = theirs, theirs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	closeAll(t, theirs)
	reaped := make(chan struct{})
	go func() {
		defer close(reaped)
		_ = cmd.Wait() //nolint:errcheck // it is killed, or was
	}()
	fd, err := unix.PidfdOpen(cmd.Process.Pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	q = &qemu{root: "/proc", pid: cmd.Process.Pid, pidfd: os.NewFile(uintptr(fd), "pidfd")}
	t.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Error(err)
		}
		<-reaped
		q.release()
		closeAll(t, peer)
	})
	return q, peer
}

func closeAll(t *testing.T, closers ...io.Closer) {
	t.Helper()
	for _, c := range closers {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestWaitReturnsWhenTheProcessIsGone(t *testing.T) {
	q, _ := child(t)
	waited := make(chan error)
	go func() { waited <- q.wait(t.Context()) }()
	if err := q.signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(q.pid, 0); !errors.Is(err, unix.ESRCH) {
		t.Errorf("after wait the process is still there: %v", err)
	}
	if err := q.wait(t.Context()); err != nil {
		t.Errorf("wait for a process that is gone: %v", err)
	}
	if err := q.signal(unix.SIGTERM); err != nil {
		t.Errorf("signal to a process that is gone: %v", err)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	q, _ := child(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := q.wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want DeadlineExceeded", err)
	}
}

func TestHeldSocketStaysOpenUntilRelease(t *testing.T) {
	q, peer := child(t)
	if err := q.holdSockets(); err != nil {
		// A security module, or a container without CAP_SYS_PTRACE.
		t.Skipf("not allowed here: %v", err)
	}
	if err := q.signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := q.wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	closed := func(patience time.Duration) error {
		if err := peer.SetReadDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		_, err := peer.Read(make([]byte, 1))
		return err
	}
	if err := closed(20 * time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("while the socket is held its peer reads %v, want a time-out", err)
	}
	q.release()
	if err := closed(10 * time.Second); !errors.Is(err, io.EOF) {
		t.Errorf("after release the peer reads %v, want EOF", err)
	}
}
