// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/keylock"
	"github.com/vmlet/vmlet/pkg/vm"
)

// readyTimeout is how long libvirt may take to answer that it is there.
const readyTimeout = time.Second

// closeTimeout is how long Close waits for libvirtd to acknowledge.
const closeTimeout = 3 * time.Second

// Hypervisor runs our domains. It implements lifecycle.Hypervisor, where each method is
// described. Safe for concurrent use.
type Hypervisor struct {
	cfg         Config
	host        hostFiles
	releaseLoop func() error
	background  sync.WaitGroup
	stop        context.CancelFunc

	events    *events
	shares    *shareWatch
	domains   *conn // everything that the others are not for
	starts    *conn // Start, which takes long: nothing else must wait for slots behind it
	buttons   *conn // PowerButton, which a QEMU that hangs never answers: calls queue behind it
	layers    *conn // snapshots and merges, which may take minutes
	eventConn *conn // events and what is needed to judge them
	agentConn *conn // calls into guests
	screens   *conn // what screens show, which a QEMU that hangs never tells
	// screenLocks let one such call of a sandbox be under way: one QEMU that hangs must not take all slots.
	screenLocks keylock.Locks
}

// New connects to libvirt. It returns when each connection was tried once, or ctx has
// ended: a libvirt that is down is no error, Ready tells of it and the connections come
// up when it does. ctx does not bound the Hypervisor, Close ends it.
func New(ctx context.Context, cfg Config) (*Hypervisor, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	releaseLoop, err := theLoop.acquire()
	if err != nil {
		return nil, err
	}
	lifetime, stop := context.WithCancel(context.WithoutCancel(ctx))
	h := &Hypervisor{cfg: cfg, host: thisHost, releaseLoop: releaseLoop, stop: stop}
	h.events, h.shares = newEvents(h), newShareWatch(h)
	ignore := func(context.Context, bool) {}
	h.domains = newConn(lifetime, cfg, ping, ignore)
	h.starts = newConn(lifetime, cfg, ping, ignore)
	h.buttons = newConn(lifetime, cfg, ping, ignore)
	h.layers = newConn(lifetime, cfg, ping, ignore)
	h.agentConn = newConn(lifetime, cfg, ping, ignore)
	h.screens = newConn(lifetime, cfg, ping, ignore)
	h.eventConn = newConn(lifetime, cfg, h.events.subscribe, h.events.resumed)
	h.events.run(lifetime, &h.background)
	h.shares.run(lifetime, &h.background)
	for _, c := range h.conns() {
		select {
		case <-c.tried:
		case <-ctx.Done():
		}
	}
	return h, nil
}

func (h *Hypervisor) conns() []*conn {
	return []*conn{h.domains, h.starts, h.buttons, h.layers, h.eventConn, h.agentConn, h.screens}
}

// dropHandles forgets a domain that is gone.
func (h *Hypervisor) dropHandles(uuid string) {
	for _, c := range h.conns() {
		if s, err := c.session(); err == nil {
			s.handles.drop(uuid)
			s.leave()
		}
	}
}

// Close closes the connections. Domains are left as they are. It is an error if libvirtd
// does not let go of a connection in time; what is left then ends with the process.
func (h *Hypervisor) Close() error {
	closed := make(chan error, 1)
	go func() {
		for _, c := range h.conns() {
			c.close()
		}
		h.stop()
		h.background.Wait()
		closed <- h.releaseLoop()
	}()
	select {
	case err := <-closed:
		return err
	case <-time.After(closeTimeout):
		return fmt.Errorf("close the connections to libvirt at %s: %w", h.cfg.URI, errdefs.ErrUnavailable)
	}
}

// Ready implements lifecycle.Hypervisor. It asks libvirtd for its version, on the
// connection where no call takes long: that it is connected does not mean that it answers.
func (h *Hypervisor) Ready(ctx context.Context) error {
	for _, c := range h.conns() {
		s, err := c.session()
		if err != nil {
			return err
		}
		s.leave()
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	err := run(ctx, h.eventConn, "ask whether libvirt is ready", "", ping)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("libvirt at %s does not answer: %w", h.cfg.URI, errdefs.ErrUnavailable)
	}
	return err
}

// Events implements lifecycle.Hypervisor.
func (h *Hypervisor) Events() <-chan vm.Event { return h.events.out }

// ping makes libvirtd answer.
func ping(s *session) error {
	if _, err := s.GetLibVersion(); err != nil {
		return fmt.Errorf("ask for libvirt's version: %w", err)
	}
	return nil
}
