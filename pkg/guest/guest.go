// SPDX-License-Identifier: Apache-2.0

// Package guest speaks to the agent in a guest: to vmlet-agent where there is one, which can
// do everything, else to qemu-guest-agent, which can run a plain command and power the guest
// off. Once vmlet-agent has answered only it is asked.
package guest

import (
	"context"
	"sync"

	"github.com/vmlet/vmlet/pkg/agentlink"
	"github.com/vmlet/vmlet/pkg/guest/qga"
	"github.com/vmlet/vmlet/pkg/guest/vmagent"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// Guest implements lifecycle.Guest. It is safe for concurrent use.
type Guest struct {
	agents *vmagent.Agents
	qga    *qga.Agent
	files  keepers
	// portless are the guests, by sandbox ID, that have no port for vmlet-agent.
	portless sync.Map
}

// New returns a Guest. Commands to qemu-guest-agent go by t; socket names the unix socket
// that QEMU has for a sandbox's vmlet-agent.
func New(t qga.Transport, socket func(id string) string) *Guest {
	return &Guest{agents: vmagent.New(socket), qga: qga.New(t)}
}

// call opens a call of vmlet-agent, bound to ctx; the stream is the caller's to Close. what
// names the call where the guest has no agent that can do it.
func (g *Guest) call(ctx context.Context, id, what string, req *agentv1.Request) (*agentlink.Stream, error) {
	if err := g.need(ctx, id, what); err != nil {
		return nil, err
	}
	return g.agents.Call(ctx, id, req)
}

// ask makes a call of vmlet-agent whose answer is but that it is done.
func (g *Guest) ask(ctx context.Context, id, what string, req *agentv1.Request) error {
	if err := g.need(ctx, id, what); err != nil {
		return err
	}
	_, err := g.agents.Ask(ctx, id, req)
	return err
}
