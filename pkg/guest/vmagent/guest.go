// SPDX-License-Identifier: Apache-2.0

package vmagent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/agentlink"
)

// guest is one sandbox's agent, from Connect to Disconnect.
type guest struct {
	id      string
	socket  string
	reboots chan<- string
	changes *changes
	silence time.Duration
	life    context.Context //nolint:containedctx // it is the guest's own, not a call's
	cancel  context.CancelFunc
	done    chan struct{} // closed when run has returned

	mu        sync.Mutex
	session   *agentlink.Session // nil while there is none
	changed   chan struct{}      // closed when session changes
	boot      string             // of the session now or before, "" without any
	why       error              // there is no session
	notifying bool               // of a reboot that nobody has heard of yet
	notifiers sync.WaitGroup
}

// Pauses between attempts. QEMU's socket may not be there yet, or the agent may go as soon
// as it has come; a guest that reboots once is found again at once.
const (
	pauseFirst = 20 * time.Millisecond
	pauseMost  = 2 * time.Second
	// steady is how long a session lasts that was worth having.
	steady = 10 * time.Second
	// How long nobody may answer on a connection until it is given up for another, twice as long after each. QEMU 7.2 can come to
	// hold all that a guest writes, for as long as a connection lasts: if a write was how it saw the last one end, it waits for
	// room in that (tcp_chr_write, virtio-console's flush_buf).
	silenceFirst = 5 * time.Second
	silenceMost  = 2 * time.Minute
)

// errSilent is a connection that was given up.
var errSilent = errors.New("its port is connected, but nobody has answered")

// run keeps a session until ctx ends.
func (g *guest) run(ctx context.Context) {
	defer close(g.done)
	defer g.notifiers.Wait()
	pause, silence := time.Duration(0), g.silence
	for {
		if !sleep(ctx, pause) {
			return
		}
		pause = min(max(2*pause, pauseFirst), pauseMost)
		s, err := g.dial(ctx, silence)
		if err != nil {
			g.set(nil, err)
			if errors.Is(err, errSilent) {
				silence = min(2*silence, silenceMost)
			}
			continue
		}
		silence = g.silence
		began := time.Now()
		g.set(s, nil)
		select {
		case <-s.Done():
		case <-ctx.Done():
		}
		err = errors.Join(s.Err(), s.Close())
		g.set(nil, err)
		if time.Since(began) > steady {
			pause = 0
		}
	}
}

// sleep returns false if ctx has ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// dial connects to QEMU's socket and begins a session, waiting for the agent as long as patience.
func (g *guest) dial(ctx context.Context, patience time.Duration) (*agentlink.Session, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", g.socket)
	if err != nil {
		return nil, err
	}
	g.set(nil, nil)
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	s, err := agentlink.Connect(bounded, conn)
	if err != nil && bounded.Err() != nil && ctx.Err() == nil {
		return nil, errSilent
	}
	return s, err
}

// set changes the session; why tells why there is none.
func (g *guest) set(s *agentlink.Session, why error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.why = why
	if s == nil && g.session == nil && !errdefs.IsFailedPrecondition(why) {
		return
	}
	before := g.boot
	if s != nil {
		g.boot = s.Peer().BootID
	}
	g.use(s)
	if s == nil {
		return
	}
	if before != "" && before != g.boot && !g.notifying {
		g.notifying = true
		g.notifiers.Go(g.notify)
	}
}

// use takes a session in place of the one there is; nil for none. mu is held.
func (g *guest) use(s *agentlink.Session) {
	g.session = s
	close(g.changed)
	g.changed = make(chan struct{})
	g.changes.add(g.id)
}

// notify tells of a reboot.
func (g *guest) notify() {
	select {
	case g.reboots <- g.id:
	case <-g.life.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.notifying = false
}

func (g *guest) current() *agentlink.Session {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.session
}

func (g *guest) seen() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.boot != ""
}

// await returns the session, waiting for one until ctx ends. An agent of other versions is
// not waited for: that is FailedPrecondition.
func (g *guest) await(ctx context.Context) (*agentlink.Session, error) {
	for {
		g.mu.Lock()
		s, changed, why := g.session, g.changed, g.why
		g.mu.Unlock()
		switch {
		case s != nil:
			return s, nil
		case errdefs.IsFailedPrecondition(why):
			return nil, why
		}
		select {
		case <-changed:
		case <-g.life.Done():
			return nil, fmt.Errorf("the guest of %s was disconnected: %w", g.id, errdefs.ErrUnavailable)
		case <-ctx.Done():
			return nil, fmt.Errorf("vmlet-agent did not answer; is it installed and running in the image? (last: %s): %w: %w",
				g.reason(), ctx.Err(), errdefs.ErrUnavailable)
		}
	}
}

// without forgets a session that is over, before run does.
func (g *guest) without(s *agentlink.Session) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.session == s {
		g.use(nil)
	}
}

// reason is why there is no session, for people.
func (g *guest) reason() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.why == nil {
		return errSilent.Error()
	}
	return g.why.Error()
}
