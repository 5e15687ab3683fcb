// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containernetworking/cni/libcni"
)

// Ready implements lifecycle.Network: a valid configuration, its plugins, and what CNI
// STATUS (version 1.1) last said.
func (n *Network) Ready(ctx context.Context) error {
	list, err := chooseConfig(n.conf.ConfDir)
	if err != nil {
		return err
	}
	if err := n.findPlugins(list); err != nil {
		return err
	}
	err = n.status.answer(ctx, list)
	switch {
	case err == nil:
		return nil
	case errdefs.IsUnavailable(err):
		return fmt.Errorf("CNI network %s: STATUS: %w", list.Name, err)
	default:
		return fmt.Errorf("CNI network %s: STATUS: %w: %w", list.Name, errdefs.ErrUnavailable, err)
	}
}

// How STATUS, which starts every plugin, is asked.
const (
	// statusAge is how long an answer is good for: kubelet asks every 5 s or so.
	statusAge = 10 * time.Second
	// statusWait is how long Ready waits for a new answer before it gives the last one.
	statusWait = 500 * time.Millisecond
	// statusTimeout bounds the plugins.
	statusTimeout = 10 * time.Second
)

// statusProbe asks plugins for their STATUS when somebody wants to know, one question at a
// time, and remembers the answer.
type statusProbe struct {
	ask func(context.Context, *libcni.NetworkConfigList) error

	mu      sync.Mutex
	config  string // that err is about
	at      time.Time
	err     error
	running chan struct{}      // closed at the end of the probe under way, nil if there is none
	cancel  context.CancelFunc // ends that probe
	closed  bool
}

// answer is what STATUS says about a configuration, or why nobody knows.
func (s *statusProbe) answer(ctx context.Context, list *libcni.NetworkConfigList) error {
	s.mu.Lock()
	if s.config == string(list.Bytes) && time.Since(s.at) < statusAge {
		defer s.mu.Unlock()
		return s.err
	}
	if s.running == nil && !s.closed {
		s.start(ctx, list)
	}
	running := s.running
	s.mu.Unlock()

	timer := time.NewTimer(statusWait)
	defer timer.Stop()
	select {
	case <-running: // nil after close: then this waits for the others
	case <-timer.C:
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.config != string(list.Bytes) {
		return fmt.Errorf("the plugins have not answered yet")
	}
	return s.err
}

// start begins a probe, which outlives the call that wanted it. s.mu is held.
func (s *statusProbe) start(ctx context.Context, list *libcni.NetworkConfigList) {
	ctx, cancel := withTimeout(context.WithoutCancel(ctx), statusTimeout)
	done := make(chan struct{})
	s.running, s.cancel = done, cancel
	go func() {
		defer cancel()
		err := s.ask(ctx, list)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.config, s.at, s.err = string(list.Bytes), time.Now(), err
		s.running = nil
		close(done)
	}()
}

// close ends the probe under way, if any, and waits for its end. No other begins.
func (s *statusProbe) close() {
	s.mu.Lock()
	s.closed = true
	running := s.running
	if running != nil {
		s.cancel()
	}
	s.mu.Unlock()
	if running != nil {
		<-running
	}
}
