// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
)

// grace is how much longer vmlet-agent may take to answer than qemu-guest-agent, where only
// the first will do, before the guest is taken for one without it.
const grace = 3 * time.Second

// need returns once vmlet-agent answers. In a guest that has only qemu-guest-agent that is
// NotImplemented, with what was asked for.
func (g *Guest) need(ctx context.Context, id, what string) error {
	if g.hasNoPort(id) {
		return onlyOurs(what, id)
	}
	ours, err := g.first(ctx, id, grace)
	if err != nil || ours {
		return err
	}
	return onlyOurs(what, id)
}

func onlyOurs(what, id string) error {
	return fmt.Errorf("%s needs vmlet-agent in the guest of %s, which has only qemu-guest-agent: %w", what, id, errdefs.ErrNotImplemented)
}

func (g *Guest) hasNoPort(id string) bool {
	_, is := g.portless.Load(id)
	return is
}

// first waits until an agent answers: ours, or qemu-guest-agent and after the grace still
// none of ours. While neither does, the error is that of waiting for ours.
func (g *Guest) first(ctx context.Context, id string, grace time.Duration) (ours bool, err error) {
	if g.hasNoPort(id) {
		return false, g.qga.Await(ctx, id)
	}
	if g.agents.Seen(id) {
		return true, nil
	}
	if _, err := g.agents.Life(id); err != nil {
		return true, err // not connected
	}
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	mine := make(chan error, 1)
	go func() {
		_, err := g.agents.Await(waiting, id)
		mine <- err
	}()
	other := make(chan error, 1)
	go func() { other <- g.qga.Await(waiting, id) }()
	select {
	case err := <-mine:
		return true, err
	case err := <-other:
		if err != nil {
			return true, <-mine // it cannot be asked, or ctx has ended
		}
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case err := <-mine:
		return true, err
	case <-timer.C:
		return false, nil
	}
}
