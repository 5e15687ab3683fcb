// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"fmt"
	"sync"
	"time"

	virt "libvirt.org/go/libvirt"
)

// loopRetry is the pause after poll(2) itself failed in libvirt's event loop, which is
// not known to happen.
const loopRetry = time.Second

// theLoop is libvirt's event loop. It is global because libvirt has one per process; its
// goroutine runs while anyone holds it. Keepalive, close callbacks and events of all
// connections depend on it.
var theLoop eventLoop

type eventLoop struct {
	mu         sync.Mutex
	registered bool
	users      int
	stopping   chan struct{}
	done       chan struct{}
}

// acquire makes sure that the loop runs until release is called. It must be held before
// the first connection is opened and until the last one is closed.
func (l *eventLoop) acquire() (release func() error, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.registered {
		if err := virt.EventRegisterDefaultImpl(); err != nil {
			return nil, fmt.Errorf("register libvirt's event loop: %w", classify(err))
		}
		l.registered = true
	}
	l.users++
	if l.users == 1 {
		l.stopping, l.done = make(chan struct{}), make(chan struct{})
		go runLoop(l.stopping, l.done)
	}
	return sync.OnceValue(l.release), nil
}

func runLoop(stopping <-chan struct{}, done chan<- struct{}) {
	defer close(done)
	for {
		err := virt.EventRunDefaultImpl()
		select {
		case <-stopping:
			return
		default:
		}
		if err != nil {
			select {
			case <-stopping:
				return
			case <-time.After(loopRetry):
			}
		}
	}
}

// release ends the loop's goroutine with its last user. A timer that is due at once
// makes the loop turn once more: that wakes it, and lets libvirt free what connections
// that were closed before have left to the loop.
func (l *eventLoop) release() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.users--
	if l.users > 0 {
		return nil
	}
	close(l.stopping)
	timer, err := virt.EventAddTimeout(0, func(int) {})
	if err != nil {
		return fmt.Errorf("wake libvirt's event loop: %w", classify(err))
	}
	<-l.done
	if err := virt.EventRemoveTimeout(timer); err != nil {
		return fmt.Errorf("remove a timer from libvirt's event loop: %w", classify(err))
	}
	return nil
}
