// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// nodeLock is the mark that a process has a node's root in use. The kernel takes it
// back when the process ends, however it ends.
type nodeLock struct {
	f *os.File
}

// lockPatience is how long the lock of a process that is dead is waited for, and lockLook how often it is looked for.
const (
	lockPatience = 10 * time.Second
	lockLook     = 10 * time.Millisecond
)

// acquireNodeLock takes the lock, or fails at once where another process has it. One that was killed may leave it for a
// moment: a program that it was about to start has all its files until its exec.
func acquireNodeLock(ctx context.Context, path string) (*nodeLock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = lockFile(ctx, f)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = fmt.Errorf("in use by the process with ID %s, which holds %s: %w", holder(path), path, errdefs.ErrFailedPrecondition)
	} else if err == nil {
		err = writePID(f)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &nodeLock{f}, nil
}

func lockFile(ctx context.Context, f *os.File) error {
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) || !isDead(holder(f.Name())) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(lockLook):
		}
	}
}

// isDead tells whether there is no process of that ID. It is not known of one that has written no ID yet.
func isDead(pid string) bool {
	n, err := strconv.Atoi(pid)
	return err == nil && errors.Is(unix.Kill(n, 0), unix.ESRCH)
}

// release gives the lock back. The file stays: removing it would let two processes
// lock two files of one name.
func (l *nodeLock) release() error { return l.f.Close() }

func writePID(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// holder reads the process ID of whoever has the lock.
func holder(path string) string {
	b, err := os.ReadFile(path)
	pid := strings.TrimSpace(string(b))
	if err != nil || pid == "" {
		return "(unknown)"
	}
	return pid
}
