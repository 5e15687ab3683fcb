// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"net"

	"github.com/vmlet/vmlet/pkg/vm"
)

// Connect begins to dial the guest's vmlet-agent, and goes on until Disconnect.
func (g *Guest) Connect(id string) { g.agents.Connect(id) }

// ConnectQGA says that the guest has no port for vmlet-agent.
func (g *Guest) ConnectQGA(id string) { g.portless.Store(id, true) }

// Disconnect ends the session with the guest's vmlet-agent and all that uses it.
func (g *Guest) Disconnect(id string) {
	g.portless.Delete(id)
	g.agents.Disconnect(id)
	g.files.take(id, nil)
}

// Reboots delivers a sandbox's ID when its guest has come up in another boot.
func (g *Guest) Reboots() <-chan string { return g.agents.Reboots() }

// AwaitChange returns a sandbox's ID when its vmlet-agent has come or gone.
func (g *Guest) AwaitChange(ctx context.Context) (id string, err error) {
	return g.agents.AwaitChange(ctx)
}

// Agent tells whether vmlet-agent answers now, and the boot ID of its guest.
func (g *Guest) Agent(id string) (bootID string, answers bool) { return g.agents.State(id) }

// AwaitAgent returns once vmlet-agent answers, with the boot ID of its guest.
func (g *Guest) AwaitAgent(ctx context.Context, id string) (bootID string, err error) {
	if g.hasNoPort(id) {
		return "", wrap("wait for the agent of", id, onlyOurs("a boot ID", id))
	}
	bootID, err = g.agents.Await(ctx, id)
	return bootID, wrap("wait for the agent of", id, err)
}

// AwaitAny returns once an agent answers, and whether that is vmlet-agent.
func (g *Guest) AwaitAny(ctx context.Context, id string) (ours bool, err error) {
	ours, err = g.first(ctx, id, grace)
	return ours, wrap("wait for an agent of", id, err)
}

// Setup makes the guest as the pod wants it.
func (g *Guest) Setup(ctx context.Context, id string, s vm.GuestSetup) error {
	err := g.need(ctx, id, "the pod's host name, sysctls and DNS in the guest")
	if err == nil {
		err = g.agents.Setup(ctx, id, s)
	}
	return wrap("set up the guest of", id, err)
}

// SetNICs has the guest configure the NICs that were attached.
func (g *Guest) SetNICs(ctx context.Context, id string, nics []vm.NIC) error {
	err := g.need(ctx, id, "an attached NIC's configuration in the guest")
	if err == nil {
		err = g.agents.SetNICs(ctx, id, nics)
	}
	return wrap("configure the NICs of", id, err)
}

// Readdress has the guest give its first interface other addresses.
func (g *Guest) Readdress(ctx context.Context, id string, was, now vm.NIC) error {
	err := g.need(ctx, id, "the addresses of another network in the guest")
	if err == nil {
		err = g.agents.Readdress(ctx, id, was, now)
	}
	return wrap("readdress", id, err)
}

// Dial connects to a TCP port of the guest's loopback.
func (g *Guest) Dial(ctx context.Context, id string, port uint16) (net.Conn, error) {
	if err := g.need(ctx, id, "a port of the guest's loopback"); err != nil {
		return nil, wrap("dial into the guest of", id, err)
	}
	conn, err := g.agents.Dial(ctx, id, port)
	return conn, wrap("dial into the guest of", id, err)
}

// Reboot asks the guest's agent to have it reboot.
func (g *Guest) Reboot(ctx context.Context, id string) error {
	if g.agents.Seen(id) {
		return wrap("reboot the guest of", id, g.agents.Reboot(ctx, id))
	}
	return g.qga.Reboot(ctx, id)
}

// Shutdown asks the guest's agent to power it off.
func (g *Guest) Shutdown(ctx context.Context, id string) error {
	if g.agents.Seen(id) {
		return wrap("shut down the guest of", id, g.agents.Shutdown(ctx, id))
	}
	return g.qga.Shutdown(ctx, id)
}
