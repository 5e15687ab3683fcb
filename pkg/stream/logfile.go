// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// logFile is an open CRI log file.
type logFile struct {
	f     *os.File
	inode uint64
	// at is where the next entry goes: behind the last whole one.
	at int64
	// torn is where the file ends if an entry without its end stands at at, else 0. It
	// is overwritten by the same entry, not cut off first: the file never shrinks, so
	// that nobody who reads along takes it for a new one.
	torn int64
}

// openLog opens the log at a path, made if need be, to go on at its end.
func openLog(path string) (*logFile, error) {
	// 0640 is containerd's mode for the same file.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o640) //nolint:gosec // log readers run in root's group
	if err != nil {
		return nil, err
	}
	l, err := newLogFile(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return l, nil
}

// findLog opens the log with an inode number: the one at path, or one beside it that
// was renamed for rotation, which has the same name with a dot and more behind it. It
// returns nil if there is none.
func findLog(path string, inode uint64) (l *logFile, err error) {
	l, err = openIf(path, inode)
	if l != nil || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return l, err
	}
	siblings, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	for _, s := range siblings {
		if !strings.HasPrefix(s.Name(), filepath.Base(path)+".") {
			continue
		}
		l, err := openIf(filepath.Join(filepath.Dir(path), s.Name()), inode)
		if l != nil || err != nil && !errors.Is(err, fs.ErrNotExist) {
			return l, err
		}
	}
	return nil, nil
}

// openIf opens a file if it has the inode number, and returns nil if it has another.
func openIf(path string, inode uint64) (*logFile, error) {
	info, err := os.Lstat(path)
	if err != nil || inodeOf(info) != inode {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	l, err := newLogFile(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if l.inode != inode {
		return nil, f.Close()
	}
	return l, nil
}

func newLogFile(f *os.File) (*logFile, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return &logFile{f: f, inode: inodeOf(info), at: info.Size()}, nil
}

func inodeOf(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Ino
	}
	return 0
}

// endLine ends a line that somebody else left open at the end of the file.
func (l *logFile) endLine(k kernel) error {
	if l.at == 0 {
		return nil
	}
	last := make([]byte, 1)
	if _, err := l.f.ReadAt(last, l.at-1); err != nil || last[0] == '\n' {
		return err
	}
	n, err := k.writeAt(l.f, []byte("\n"), l.at)
	l.at += int64(n)
	return err
}

// settle looks whether somebody else cut the file or wrote into it, and if so goes on
// at its end; moved tells.
func (l *logFile) settle() (moved bool, err error) {
	info, err := l.f.Stat()
	if err != nil || info.Size() == max(l.at, l.torn) {
		return false, err
	}
	l.at, l.torn = info.Size(), 0
	return true, nil
}

// write puts entries at the end. When it fails, what is behind at is not known.
func (l *logFile) write(k kernel, entries []byte) error {
	n, err := k.writeAt(l.f, entries, l.at)
	if err != nil {
		return err
	}
	l.at += int64(n)
	return l.cutTorn(k)
}

// cutTorn removes what is left of a torn entry.
func (l *logFile) cutTorn(k kernel) error {
	if l.torn > l.at {
		if err := k.truncate(l.f, l.at); err != nil {
			return err
		}
	}
	l.torn = 0
	return nil
}

func (l *logFile) close() error { return l.f.Close() }
