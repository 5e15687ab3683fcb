// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// stdio are both ends of a process's standard files.
type stdio struct {
	// child's are given to the process: 0, 1 and 2.
	child [3]*os.File
	// The agent's ends: stdin is nil without input, stderr is nil with a terminal. Of a
	// terminal stdin and stdout are the same file.
	stdin, stdout, stderr *os.File
	tty                   bool
}

// closeChild closes what only the process needs.
func (s *stdio) closeChild() {
	for _, f := range s.child {
		_ = f.Close() //nolint:errcheck // nil, or given to the process, or never used; a terminal's is closed more than once
	}
}

func (s *stdio) close() {
	s.closeChild()
	for _, f := range []*os.File{s.stdin, s.stdout, s.stderr} {
		_ = f.Close() //nolint:errcheck // nil, or of no use
	}
}

// chown gives the process's ends to its user, who may open /dev/stdout again then.
func (s *stdio) chown(id identity) error {
	files := s.child[:]
	if s.tty {
		files = files[:1] // thrice the same
	}
	for _, f := range files {
		if f.Name() == os.DevNull {
			continue
		}
		if err := f.Chown(int(id.uid), int(id.gid)); err != nil {
			return fmt.Errorf("give the standard files to the user: %w", err)
		}
	}
	return nil
}

// pipes connects a process by pipes; without input it reads nothing from /dev/null.
func pipes(input bool) (s *stdio, err error) {
	s = &stdio{}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if input {
		s.child[0], s.stdin, err = os.Pipe()
	} else {
		s.child[0], err = os.Open(os.DevNull)
	}
	if err != nil {
		return s, err
	}
	if s.stdout, s.child[1], err = os.Pipe(); err != nil {
		return s, err
	}
	s.stderr, s.child[2], err = os.Pipe()
	return s, err
}

// terminal connects a process by a new pseudo terminal.
func terminal(input bool) (*stdio, error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open a terminal: %w", err)
	}
	master := os.NewFile(uintptr(fd), "/dev/ptmx")
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, errors.Join(fmt.Errorf("unlock the terminal: %w", err), master.Close())
	}
	// The other end by the master itself: /dev/pts may be another one in a namespace.
	peer, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return nil, errors.Join(fmt.Errorf("open the terminal's other end: %w", errno), master.Close())
	}
	slave := os.NewFile(peer, "tty")
	s := &stdio{child: [3]*os.File{slave, slave, slave}, stdout: master, tty: true}
	if input {
		s.stdin = master
	}
	return s, nil
}

// resize sets a terminal's size.
func resize(master *os.File, width, height uint32) error {
	conn, err := master.SyscallConn()
	if err != nil {
		return err
	}
	const most = 1<<16 - 1
	size := &unix.Winsize{Col: uint16(min(width, most)), Row: uint16(min(height, most))}
	var failed error
	err = conn.Control(func(fd uintptr) { failed = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, size) })
	return errors.Join(err, failed)
}
