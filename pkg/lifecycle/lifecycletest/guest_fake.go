// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"context"
	"fmt"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/lifecycle"
	"github.com/vmlet/vmlet/pkg/vm"
)

var _ lifecycle.GuestAgent = (*GuestAgent)(nil)

// GuestAgent is a lifecycle.GuestAgent without guests. As made, an agent answers for
// every ID, each command succeeds at once without output, and Shutdown does nothing.
type GuestAgent struct {
	Script

	guestMu    sync.Mutex
	silent     map[string]chan struct{} // closed when the agent begins to answer
	onExec     func(ctx context.Context, id string, req vm.ExecRequest) (vm.ExecResult, error)
	onShutdown func(id string)
}

// NewGuestAgent makes a fake whose guests all have an agent.
func NewGuestAgent() *GuestAgent {
	return &GuestAgent{silent: map[string]chan struct{}{}}
}

// SetExec gives the commands a behaviour. f may block; it then has to honour ctx.
func (g *GuestAgent) SetExec(f func(ctx context.Context, id string, req vm.ExecRequest) (vm.ExecResult, error)) {
	g.guestMu.Lock()
	defer g.guestMu.Unlock()
	g.onExec = f
}

// SetShutdown has f called by each successful Shutdown: the place to end the guest in
// a fake hypervisor.
func (g *GuestAgent) SetShutdown(f func(id string)) {
	g.guestMu.Lock()
	defer g.guestMu.Unlock()
	g.onShutdown = f
}

// SetSilent says whether the guest is without an answering agent, as while it boots.
func (g *GuestAgent) SetSilent(id string, silent bool) {
	g.guestMu.Lock()
	defer g.guestMu.Unlock()
	answers, was := g.silent[id]
	switch {
	case silent && !was:
		g.silent[id] = make(chan struct{})
	case !silent && was:
		close(answers)
		delete(g.silent, id)
	}
}

// Exec implements lifecycle.GuestAgent.
func (g *GuestAgent) Exec(ctx context.Context, id string, req vm.ExecRequest) (vm.ExecResult, error) {
	if err := g.enter(ctx, "Exec", id); err != nil {
		return vm.ExecResult{}, err
	}
	if len(req.Command) == 0 {
		return vm.ExecResult{}, fmt.Errorf("exec in %s: no command: %w", id, errdefs.ErrInvalidArgument)
	}
	g.guestMu.Lock()
	answers, run := g.silent[id], g.onExec
	g.guestMu.Unlock()
	if answers != nil {
		select {
		case <-answers:
		case <-ctx.Done():
			return vm.ExecResult{}, fmt.Errorf("exec in %s: guest agent did not answer: %w", id, ctx.Err())
		}
	}
	if run == nil {
		return vm.ExecResult{}, nil
	}
	res, err := run(ctx, id, req)
	res.Stdout = res.Stdout[:min(len(res.Stdout), req.MaxOutput)]
	res.Stderr = res.Stderr[:min(len(res.Stderr), req.MaxOutput)]
	return res, err
}

// Shutdown implements lifecycle.GuestAgent.
func (g *GuestAgent) Shutdown(ctx context.Context, id string) error {
	if err := g.enter(ctx, "Shutdown", id); err != nil {
		return err
	}
	g.guestMu.Lock()
	_, silent := g.silent[id]
	f := g.onShutdown
	g.guestMu.Unlock()
	if silent {
		return fmt.Errorf("shut down %s: guest agent does not answer: %w", id, errdefs.ErrUnavailable)
	}
	if f != nil {
		f(id)
	}
	return nil
}
