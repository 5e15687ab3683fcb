// SPDX-License-Identifier: Apache-2.0

package logfile

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/fsnotify/fsnotify"
)

// Print writes what the file holds, or its last lines if tail is not negative. An entry
// that is being written is left out.
func Print(path string, tail int, stdout, stderr io.Writer) (err error) {
	r, err := openAt(path, tail, newSink(stdout, stderr))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.file.Close()) }()
	return r.drain()
}

// Follow is Print, and goes on with what is written, until ended is closed and all is
// written, or ctx ends, which is no error. When the file is renamed and another one is
// made at its path, Follow goes on in that one. A file that is not there yet is waited
// for, but its folder must be there.
func Follow(ctx context.Context, path string, tail int, stdout, stderr io.Writer, ended <-chan struct{}) (err error) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, watcher.Close()) }()
	// The folder and not the file, since the file gets replaced; before the file is read,
	// so that nothing falls in between.
	if err := watcher.Add(filepath.Dir(path)); err != nil {
		return err
	}
	f := &follower{path: filepath.Clean(path), tail: tail, to: newSink(stdout, stderr)}
	defer func() { err = errors.Join(err, f.close()) }()
	for {
		if err := f.catchUp(); err != nil {
			return err
		}
		over, err := f.wait(ctx, watcher, ended)
		if err != nil {
			return err
		}
		if over {
			return f.catchUp()
		}
	}
}

type follower struct {
	path string
	tail int // for the first file: of later ones nothing was seen
	to   *sink
	r    *reader // nil while there is no file
}

// catchUp passes on all that is written by now, in this file and in those that took its
// place.
func (f *follower) catchUp() error {
	for {
		if f.r == nil {
			r, err := openAt(f.path, f.tail, f.to)
			if errors.Is(err, os.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			f.r, f.tail = r, -1
		}
		// In this order: once there is a new file, nothing more is written into the old one.
		replaced, err := f.r.replaced(f.path)
		if err != nil {
			return err
		}
		if err := f.r.drain(); err != nil || !replaced {
			return err
		}
		if err := f.close(); err != nil {
			return err
		}
	}
}

// wait returns when there may be something to read, or when it is over.
func (f *follower) wait(ctx context.Context, watcher *fsnotify.Watcher, ended <-chan struct{}) (over bool, err error) {
	for {
		select {
		case <-ctx.Done():
			return true, nil
		case <-ended:
			return true, nil
		case event := <-watcher.Events:
			// Rotation appends to the name, and what is written before the reopening goes there.
			if strings.HasPrefix(event.Name, f.path) {
				return false, nil
			}
		case err := <-watcher.Errors:
			if errors.Is(err, fsnotify.ErrEventOverflow) {
				return false, nil // some event is lost, so there may be something
			}
			return false, err
		}
	}
}

func (f *follower) close() error {
	if f.r == nil {
		return nil
	}
	r := f.r
	f.r = nil
	return r.file.Close()
}
