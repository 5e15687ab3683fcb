// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

const (
	// maxSocketPath is what sockaddr_un holds, less its NUL: unix(7).
	maxSocketPath = 107
	// aside is put behind a socket's path until its owner and mode are set.
	aside = "~"
	// askTimeout bounds the question whether somebody serves on a socket.
	askTimeout = 2 * time.Second
)

// socket is a unix listener that owns its path.
type socket struct {
	net.Listener
	path  string
	inode fs.FileInfo
	lock  *os.File
	close sync.Once
	err   error
}

// listen binds path, with mode 0660 and the group's ownership from the first moment that
// it can be connected to. A socket that nobody serves on is replaced; one that somebody
// does, or a file that is no socket, is FailedPrecondition. The lock beside it settles
// which of two daemons that start at once may look.
func listen(ctx context.Context, path, group string) (_ *socket, err error) {
	if !filepath.IsAbs(path) || len(path)+len(aside) > maxSocketPath {
		return nil, invalid("socket path %q must be absolute and at most %d bytes long", path, maxSocketPath-len(aside))
	}
	gid, err := groupID(group)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // the socket's own mode is what counts
		return nil, err
	}
	lock, err := lockFile(path + ".lock")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, lock.Close())
		}
	}()
	if err := makeWay(ctx, path); err != nil {
		return nil, err
	}
	return bind(ctx, path, gid, lock)
}

// bind makes the socket aside, sets its owner and mode, and puts it in place.
func bind(ctx context.Context, path string, gid int, lock *os.File) (_ *socket, err error) {
	made := path + aside
	if err := os.Remove(made); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "unix", made)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, listener.Close())
		}
	}()
	if err := os.Chown(made, -1, gid); err != nil {
		return nil, err
	}
	if err := os.Chmod(made, 0o660); err != nil { //nolint:gosec // the group is there to be let in
		return nil, err
	}
	inode, err := os.Lstat(made)
	if err != nil {
		return nil, err
	}
	if err := os.Rename(made, path); err != nil {
		return nil, err
	}
	if l, ok := listener.(*net.UnixListener); ok {
		l.SetUnlinkOnClose(false) // it would remove the name it was bound to
	}
	return &socket{Listener: listener, path: path, inode: inode, lock: lock}, nil
}

// Close stops listening and removes the path, unless it is another's by now. Idempotent.
func (s *socket) Close() error {
	s.close.Do(func() {
		if now, err := os.Lstat(s.path); err == nil && os.SameFile(now, s.inode) {
			s.err = os.Remove(s.path)
		}
		s.err = errors.Join(s.err, s.Listener.Close(), s.lock.Close())
	})
	return s.err
}

// lockFile takes the lock that is held for as long as the file is open.
func lockFile(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = fmt.Errorf("another vmlet serves here: it holds %s: %w", path, errdefs.ErrFailedPrecondition)
		}
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// makeWay removes a socket that nobody serves on.
func makeWay(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("it is no socket but a file of mode %s, which is left alone: %w", info.Mode(), errdefs.ErrFailedPrecondition)
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		return errors.Join(fmt.Errorf("another process serves on it: %w", errdefs.ErrFailedPrecondition), conn.Close())
	case errors.Is(err, unix.ECONNREFUSED):
		return os.Remove(path)
	default:
		return fmt.Errorf("whether another process serves on it is not known: %w: %w", err, errdefs.ErrFailedPrecondition)
	}
}

// groupID finds a group by name or number; -1 leaves the group as it is.
func groupID(group string) (int, error) {
	if group == "" {
		return -1, nil
	}
	if gid, err := strconv.ParseUint(group, 10, 31); err == nil {
		return int(gid), nil
	}
	found, err := user.LookupGroup(group)
	if err != nil {
		return 0, invalid("group %q of the socket is unknown", group)
	}
	gid, err := strconv.Atoi(found.Gid)
	if err != nil {
		return 0, fmt.Errorf("group %q has the ID %q: %w", group, found.Gid, err)
	}
	return gid, nil
}
