// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/containerd/errdefs"
)

// Gate refuses calls while the daemon recovers its state. It opens once and never closes
// again. Safe for concurrent use.
type Gate struct {
	reason atomic.Pointer[string]
	opened chan struct{}
	once   sync.Once
}

// NewGate makes a closed gate.
func NewGate() *Gate {
	g := &Gate{opened: make(chan struct{})}
	reason := "vmlet is starting"
	g.reason.Store(&reason)
	return g
}

// Recovering tells how far the recovery is, for those who are refused.
func (g *Gate) Recovering(done, total int) {
	reason := fmt.Sprintf("vmlet is starting: recovering %d of %d sandboxes", done, total)
	g.reason.Store(&reason)
}

// Waiting tells what the recovery waits for, for those who are refused.
func (g *Gate) Waiting(why error) {
	reason := "vmlet is starting: " + why.Error()
	g.reason.Store(&reason)
}

// Open lets everything through. Idempotent.
func (g *Gate) Open() { g.once.Do(func() { close(g.opened) }) }

// Opened is closed when the gate is opened.
func (g *Gate) Opened() <-chan struct{} { return g.opened }

// Err is nil once the gate is open, before that Unavailable with the reason.
func (g *Gate) Err() error {
	select {
	case <-g.opened:
		return nil
	default:
		return errdefs.ErrUnavailable.WithMessage(*g.reason.Load())
	}
}
