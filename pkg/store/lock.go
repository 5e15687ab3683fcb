// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// nodeLock is the mark that a process has a node's root in use. The kernel takes it
// back when the process ends, however it ends.
type nodeLock struct {
	f *os.File
}

// acquireNodeLock takes the lock or fails at once.
func acquireNodeLock(path string) (*nodeLock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
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
