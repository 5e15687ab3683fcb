// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// reapTimeout bounds the wait for a dead QEMU to be reaped by its parent, which the kernel
// tells nobody but the parent; reapPoll is the pause between looks.
const (
	reapTimeout = 100 * time.Millisecond
	reapPoll    = time.Millisecond
)

// qemu is a QEMU process, held by descriptors so that its number cannot come to mean
// another process.
//
// It may also hold a copy of QEMU's sockets, for the sake of speed: when QEMU ends, its
// end of the monitor closes a moment before its parent has reaped it. libvirt hears of the
// former, looks for the process, finds the zombie, and looks again after 200 ms. With a
// copy of the socket here libvirt hears nothing until release, when the process is gone
// and its first look says so.
type qemu struct {
	root  string
	pid   int
	pidfd *os.File
	held  []int
}

// openQEMU finds the process of a sandbox and takes hold of it. The caller releases it.
func openQEMU(root, id string) (*qemu, error) {
	pid, err := findQEMU(root, id)
	if err != nil {
		return nil, err
	}
	pidfd, err := openPIDFD(pid)
	if err != nil {
		return nil, fmt.Errorf("open QEMU's process %d: %w", pid, err)
	}
	q := &qemu{root: root, pid: pid, pidfd: pidfd}
	// The process that was found may have ended, and its number been given away, before
	// the descriptor was opened.
	same, err := isQEMUOf(root, pid, id)
	if err == nil && !same {
		err = errNotActive
	}
	if err != nil {
		q.release()
		return nil, fmt.Errorf("open QEMU's process %d: %w", pid, err)
	}
	return q, nil
}

// release lets go of the process and its sockets.
func (q *qemu) release() {
	for _, fd := range q.held {
		_ = unix.Close(fd) //nolint:errcheck // a copy to which nothing was written
	}
	q.held = nil
	_ = q.pidfd.Close() //nolint:errcheck // as above
}

// holdSockets copies QEMU's sockets. It needs the right to trace QEMU, which a security
// module may refuse even to root.
func (q *qemu) holdSockets() error {
	dir := filepath.Join(q.root, strconv.Itoa(q.pid), "fd")
	files, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list QEMU's open files: %w", err)
	}
	for _, file := range files {
		target, err := os.Readlink(filepath.Join(dir, file.Name()))
		if err != nil || !strings.HasPrefix(target, "socket:") {
			continue // or closed meanwhile
		}
		number, err := strconv.Atoi(file.Name())
		if err != nil {
			return fmt.Errorf("list QEMU's open files: %w", err)
		}
		var fd int
		err = q.control(func(pidfd int) (err error) {
			fd, err = unix.PidfdGetfd(pidfd, number, 0)
			return err
		})
		if errors.Is(err, unix.EBADF) {
			continue
		}
		if err != nil {
			return fmt.Errorf("copy QEMU's socket %d: %w", number, err)
		}
		q.held = append(q.held, fd)
	}
	return nil
}

// signal sends a signal; a process that has ended is no error.
func (q *qemu) signal(sig unix.Signal) error {
	err := q.control(func(pidfd int) error { return unix.PidfdSendSignal(pidfd, sig, nil, 0) })
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("send %s to QEMU's process %d: %w", sig, q.pid, err)
	}
	return nil
}

// wait returns when the process has ended and, as a rule, was reaped; or with ctx's error.
func (q *qemu) wait(ctx context.Context) error {
	if err := waitPIDFD(ctx, q.pidfd); err != nil {
		return fmt.Errorf("wait for QEMU's process %d: %w", q.pid, err)
	}
	q.waitReaped(ctx)
	return nil
}

func (q *qemu) waitReaped(ctx context.Context) {
	reaped := func() bool {
		err := q.control(func(pidfd int) error { return unix.PidfdSendSignal(pidfd, 0, nil, 0) })
		return errors.Is(err, unix.ESRCH)
	}
	for deadline := time.Now().Add(reapTimeout); !reaped() && time.Now().Before(deadline) && ctx.Err() == nil; {
		sleep(ctx, reapPoll)
	}
}

// control calls do with the descriptor, which stays open meanwhile.
func (q *qemu) control(do func(pidfd int) error) error {
	raw, err := q.pidfd.SyscallConn()
	if err != nil {
		return err
	}
	var doErr error
	if err := raw.Control(func(fd uintptr) { doErr = do(int(fd)) }); err != nil {
		return err
	}
	return doErr
}
