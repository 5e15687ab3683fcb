// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/fsnotify/fsnotify"
)

// folderWatch tells of changes in folders of the host, to all guests through one inotify
// instance: a host has few of those (fs.inotify.max_user_instances). The zero value is
// ready for use. It is safe for concurrent use.
type folderWatch struct {
	mu      sync.Mutex
	watcher *fsnotify.Watcher // nil while nobody listens
	by      map[string]map[*listener]bool
}

// listener is told of changes of one name in a folder, "" for all.
type listener struct {
	name string
	wake func()
}

// listen calls wake, which must not block, after each change, or when changes may have been
// missed; until stop is called.
func (w *folderWatch) listen(dir, name string, wake func()) (stop func() error, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.watcher == nil {
		if w.watcher, err = fsnotify.NewWatcher(); err != nil {
			return nil, fmt.Errorf("watch files: %w", err)
		}
		w.by = map[string]map[*listener]bool{}
		go w.run(w.watcher)
	}
	if err := w.watcher.Add(dir); err != nil {
		return nil, errors.Join(fmt.Errorf("watch %s: %w", dir, err), w.closeUnused())
	}
	if w.by[dir] == nil {
		w.by[dir] = map[*listener]bool{}
	}
	l := &listener{name, wake}
	w.by[dir][l] = true
	return func() error { return w.drop(dir, l) }, nil
}

func (w *folderWatch) drop(dir string, l *listener) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.by[dir], l)
	if len(w.by[dir]) > 0 {
		return nil
	}
	delete(w.by, dir)
	err := w.watcher.Remove(dir)
	if errors.Is(err, fsnotify.ErrNonExistentWatch) {
		err = nil // the folder was removed, and the watch with it
	}
	return errors.Join(err, w.closeUnused())
}

// closeUnused ends run when nobody listens. The caller holds mu.
func (w *folderWatch) closeUnused() error {
	if len(w.by) > 0 {
		return nil
	}
	err := w.watcher.Close()
	w.watcher = nil
	return err
}

func (w *folderWatch) run(from *fsnotify.Watcher) {
	for {
		select {
		case ev, ok := <-from.Events:
			if !ok {
				return
			}
			w.tell(filepath.Split(ev.Name))
		case _, ok := <-from.Errors: //nolint:errcheck // whatever it is, the answer is to look
			if !ok {
				return
			}
			// Above all that events were lost: everybody looks.
			w.tellAll()
		}
	}
}

func (w *folderWatch) tell(dir, name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for l := range w.by[filepath.Clean(dir)] {
		if l.name == "" || l.name == name {
			l.wake()
		}
	}
}

func (w *folderWatch) tellAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, listeners := range w.by {
		for l := range listeners {
			l.wake()
		}
	}
}
