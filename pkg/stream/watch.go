// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// breath is the pause after events were handed on. A guest prints in many small writes:
// what comes in during the pause is one event and one copy.
const breath = 10 * time.Millisecond

// watcher tells which files were written to, all through one inotify instance: a host
// has few of those (fs.inotify.max_user_instances). It is safe for concurrent use.
type watcher struct {
	f       *os.File
	written func(containerID string)
	stop    chan struct{}
	stopped chan struct{}

	mu  sync.Mutex
	ids map[int32]string // container IDs by watch descriptor
}

// newWatcher starts a watcher. written is called from one goroutine, soon after a file
// was written to; it must not block.
func newWatcher(written func(containerID string)) (*watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("make an inotify instance: %w", err)
	}
	w := &watcher{
		f: os.NewFile(uintptr(fd), "inotify"), written: written, ids: map[int32]string{},
		stop: make(chan struct{}), stopped: make(chan struct{}),
	}
	go w.run()
	return w, nil
}

// add watches a file, until the returned function is called.
func (w *watcher) add(path, containerID string) (remove func() error, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	wd, err := w.control(func(fd int) (int, error) { return unix.InotifyAddWatch(fd, path, unix.IN_MODIFY) })
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", path, err)
	}
	w.ids[int32(wd)] = containerID
	return func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.ids, int32(wd))
		_, err := w.control(func(fd int) (int, error) { return unix.InotifyRmWatch(fd, uint32(wd)) })
		if errors.Is(err, unix.EINVAL) {
			return nil // the file was removed, and the watch with it
		}
		return err
	}, nil
}

// control runs do on the instance, which cannot be closed meanwhile.
func (w *watcher) control(do func(fd int) (int, error)) (result int, err error) {
	conn, err := w.f.SyscallConn()
	if err != nil {
		return 0, err
	}
	ctrlErr := conn.Control(func(fd uintptr) { result, err = do(int(fd)) })
	return result, errors.Join(ctrlErr, err)
}

// close ends the watcher and returns when written is called no more.
func (w *watcher) close() error {
	close(w.stop)
	err := w.f.Close()
	<-w.stopped
	return err
}

func (w *watcher) run() {
	defer close(w.stopped)
	pause := time.NewTimer(0)
	defer pause.Stop()
	b := make([]byte, 1024*unix.SizeofInotifyEvent)
	for {
		n, err := w.f.Read(b)
		if err != nil {
			return // closed
		}
		w.handOn(b[:n])
		if n == len(b) {
			continue
		}
		pause.Reset(breath)
		select {
		case <-pause.C:
		case <-w.stop:
			return
		}
	}
}

// handOn calls written once for each file that the events are about.
func (w *watcher) handOn(events []byte) {
	w.mu.Lock()
	ids := map[string]bool{}
	for len(events) >= unix.SizeofInotifyEvent {
		wd := int32(binary.NativeEndian.Uint32(events[0:]))
		mask := binary.NativeEndian.Uint32(events[4:])
		nameLen := binary.NativeEndian.Uint32(events[12:])
		events = events[unix.SizeofInotifyEvent+int(nameLen):]
		if mask&unix.IN_Q_OVERFLOW != 0 { // events are missing: it may be any file
			for _, id := range w.ids {
				ids[id] = true
			}
		} else if id, ok := w.ids[wd]; ok {
			ids[id] = true
		}
	}
	w.mu.Unlock()
	for id := range ids {
		w.written(id)
	}
}
