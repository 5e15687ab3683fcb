// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"fmt"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// consoleWriters are who types into serial consoles, by container ID: one each. They end with this process, as their
// clients' connections do.
type consoleWriters struct {
	mu sync.Mutex
	m  map[string]*consoleWriter
}

// consoleWriter is one of them.
type consoleWriter struct {
	since time.Time
	c     vm.Container
	// taken is closed when another has taken its place, and calmed when nothing of it goes in any more.
	taken, calmed chan struct{}
	// before is the calmed of whose place it took, nil for nobody's.
	before <-chan struct{}
	// news has one slot: there may be another QEMU to type into than qemu, its PID, which is 0 before the first.
	news chan struct{}
	qemu int
}

// enter makes the caller the writer of a console. FailedPrecondition while there is another, unless its place is to be
// taken. Whoever enters leaves.
func (w *consoleWriters) enter(c vm.Container, now time.Time, force bool) (*consoleWriter, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	one := &consoleWriter{since: now, c: c, taken: make(chan struct{}), calmed: make(chan struct{}), news: make(chan struct{}, 1)}
	if old := w.m[c.ID]; old != nil {
		if !force {
			return nil, fmt.Errorf("somebody else has been typing since %s; watch without typing, or take over by force: %w",
				old.since.UTC().Format(time.RFC3339), errdefs.ErrFailedPrecondition)
		}
		close(old.taken)
		one.before = old.calmed
	}
	if w.m == nil {
		w.m = map[string]*consoleWriter{}
	}
	w.m[c.ID] = one
	return one, nil
}

// leave gives the place up, if it was not taken.
func (w *consoleWriters) leave(one *consoleWriter) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.m[one.c.ID] == one {
		delete(w.m, one.c.ID)
	}
}

// tell tells who types into a sandbox's console, or into any for "", that there may be another QEMU.
func (w *consoleWriters) tell(sandboxID string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, one := range w.m {
		if sandboxID != "" && one.c.SandboxID != sandboxID {
			continue
		}
		select {
		case one.news <- struct{}{}:
		default: // it has not come to the last one yet
		}
	}
}

// calm says that nothing of it goes in any more, nor of those before it.
func (one *consoleWriter) calm() {
	if one.before != nil {
		<-one.before
	}
	close(one.calmed)
}
