// SPDX-License-Identifier: Apache-2.0

package files

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

const (
	// maxCarried leaves room for the rest of a message of 1 MiB.
	maxCarried = 1<<20 - 8<<10
	// quiet is how long a file has to be left alone before its change is told: a program
	// writes in pieces.
	quiet = 50 * time.Millisecond
	// mostWait is how long the change of a file waits that is never left alone.
	mostWait = 500 * time.Millisecond
)

// Watch tells of the changes that the guest makes to single files.
type Watch struct {
	inotify *os.File
	files   map[uint32]*watched // by inotify's number
	order   []*watched
}

type watched struct {
	path string
	tree *tree
	told [sha256.Size]byte
	ever bool // told of it
}

// Watch begins to watch single files that were synced, by their paths, in whatever
// namespace they are. NotFound for a path where there is none. The caller closes it.
func (f *Files) Watch(paths []string) (_ *Watch, err error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch files: %w", err)
	}
	w := &Watch{inotify: os.NewFile(uintptr(fd), "inotify"), files: map[uint32]*watched{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Close())
		}
	}()
	for _, path := range paths {
		t := f.file(path)
		if t == nil {
			return nil, fmt.Errorf("no file was synced to %s: %w", path, errdefs.ErrNotFound)
		}
		if err := w.add(path, t, fd); err != nil {
			return nil, fmt.Errorf("watch %s: %w", path, err)
		}
	}
	return w, nil
}

// file finds a single file by its path.
func (f *Files) file(path string) *tree {
	f.mu.Lock()
	defer f.mu.Unlock()
	for at, t := range f.trees {
		if at.path == path && !t.folder {
			return t
		}
	}
	return nil
}

func (w *Watch) add(path string, t *tree, inotify int) error {
	file, err := t.root.Open(single)
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // it was only looked at
	// By its descriptor: the tmpfs has no path in this namespace.
	wd, err := unix.InotifyAddWatch(inotify, fmt.Sprintf("/proc/self/fd/%d", file.Fd()), unix.IN_MODIFY)
	if err != nil {
		return err
	}
	one := &watched{path: path, tree: t}
	w.files[uint32(wd)] = one
	w.order = append(w.order, one)
	return nil
}

// Close ends Run too.
func (w *Watch) Close() error { return w.inotify.Close() }

// Run sends every file as it is now and then, once it is left alone for a moment, each that
// has changed, until ctx ends or sending fails.
func (w *Watch) Run(ctx context.Context, send func(*agentv1.FileChange) error) error {
	for _, one := range w.order {
		if err := one.tell(send); err != nil {
			return err
		}
	}
	stop := context.AfterFunc(ctx, func() {
		_ = w.inotify.SetReadDeadline(time.Unix(1, 0)) //nolint:errcheck // a closed one ends the read too
	})
	defer stop()
	for {
		changed, err := w.next(ctx)
		if err != nil {
			return err
		}
		for one := range changed {
			if err := one.tell(send); err != nil {
				return err
			}
		}
	}
}

// next returns the files that have changed, once all are left alone for a moment or the
// first has waited long enough.
func (w *Watch) next(ctx context.Context) (map[*watched]bool, error) {
	changed := map[*watched]bool{}
	err := w.read(ctx, changed, time.Time{})
	for patience := time.Now().Add(mostWait); err == nil && time.Now().Before(patience); {
		err = w.read(ctx, changed, time.Now().Add(quiet))
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, fmt.Errorf("watch files: %w", err)
	}
	return changed, nil
}

// read waits for events and notes the files that they are of; all of them when some events
// were lost.
func (w *Watch) read(ctx context.Context, changed map[*watched]bool, until time.Time) error {
	if err := w.inotify.SetReadDeadline(until); err != nil {
		return err
	}
	if ctx.Err() != nil { // Run's deadline may have been the one before
		return ctx.Err()
	}
	buf := make([]byte, 64*unix.SizeofInotifyEvent)
	n, err := w.inotify.Read(buf)
	if err != nil {
		return err
	}
	for buf = buf[:n]; len(buf) >= unix.SizeofInotifyEvent; {
		wd, mask := binary.NativeEndian.Uint32(buf), binary.NativeEndian.Uint32(buf[4:])
		if one := w.files[wd]; one != nil {
			changed[one] = true
		}
		if mask&unix.IN_Q_OVERFLOW != 0 {
			for _, one := range w.order {
				changed[one] = true
			}
		}
		buf = buf[min(len(buf), unix.SizeofInotifyEvent+int(binary.NativeEndian.Uint32(buf[12:]))):]
	}
	return nil
}

// tell sends the file as it is, unless that was sent before, or is what the host has synced
// since.
func (one *watched) tell(send func(*agentv1.FileChange) error) error {
	change, err := one.read()
	if err != nil {
		return fmt.Errorf("read %s: %w", one.path, err)
	}
	sum := sha256.Sum256(change.GetContent())
	if one.ever && (sum == one.told || change.GetSynced()) {
		one.told = sum
		return nil
	}
	one.ever, one.told = true, sum
	return send(change)
}

func (one *watched) read() (*agentv1.FileChange, error) {
	one.tree.Lock() // so that what is synced just now is known as such
	defer one.tree.Unlock()
	change := &agentv1.FileChange{Path: one.path}
	f, err := one.tree.root.Open(single)
	if errors.Is(err, fs.ErrNotExist) {
		change.Removed = true
		return change, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	data, err := io.ReadAll(io.LimitReader(f, maxCarried+1))
	if err != nil {
		return nil, err
	}
	if change.Truncated = len(data) > maxCarried; change.GetTruncated() {
		data = data[:maxCarried]
	}
	change.Content = data
	change.Synced = !change.GetTruncated() && sha256.Sum256(data) == one.tree.synced
	return change, nil
}
