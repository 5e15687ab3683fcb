// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"context"
	"fmt"
	"net"
	"slices"

	"github.com/vmlet/vmlet/pkg/vm"
)

// Hangup ends all connections, as the end of the daemon does.
func (g *Guest) Hangup() {
	g.guestMu.Lock()
	defer g.guestMu.Unlock()
	clear(g.connected)
}

// Mute leaves all guests from now on without an agent, until SetSilent.
func (g *Guest) Mute() {
	g.guestMu.Lock()
	defer g.guestMu.Unlock()
	g.mute = true
}

// SetSilent says whether the guest is without an answering agent, as while it boots.
func (g *Guest) SetSilent(id string, silent bool) {
	g.with(id, func(one *fakeGuest) { one.silent = silent })
}

// SetForeign leaves the guest with qemu-guest-agent alone.
func (g *Guest) SetForeign(id string) {
	g.with(id, func(one *fakeGuest) { one.foreign = true })
}

// EndMain ends the guest's command. It panics if none runs, since the test is then wrong.
func (g *Guest) EndMain(id string, exit vm.MainExit) {
	g.with(id, func(one *fakeGuest) {
		if one.main == nil || one.exit != nil {
			panic("lifecycletest: no command runs in sandbox " + id)
		}
		one.exit = &exit
	})
}

// IgnoreReboot makes all agents say yes to Reboot from now on, and do nothing.
func (g *Guest) IgnoreReboot() {
	g.guestMu.Lock()
	defer g.guestMu.Unlock()
	g.deaf = true
}

// Boot boots the guest anew: what ran and what was set up is gone.
func (g *Guest) Boot(id string) {
	g.with(id, func(one *fakeGuest) { *one = fakeGuest{boot: one.boot + 1} })
	g.reboots <- id
}

// PowerOff tells the fake that a VM has ended: the next boot of its ID is a new one. Nobody
// is told of a reboot.
func (g *Guest) PowerOff(id string) {
	g.with(id, func(one *fakeGuest) { *one = fakeGuest{boot: one.boot + 1, silent: g.mute} })
}

// SetAck has f called by each successful AckMain, and SetShutdown by each successful
// Shutdown: the place to end the guest in a fake hypervisor.
func (g *Guest) SetAck(f func(id string)) {
	g.guestMu.Lock()
	defer g.guestMu.Unlock()
	g.onAck = f
}

// SetShutdown is for Shutdown what SetAck is for AckMain.
func (g *Guest) SetShutdown(f func(id string)) {
	g.guestMu.Lock()
	defer g.guestMu.Unlock()
	g.onShutdown = f
}

// SetDisconnect has f called by each Disconnect before it does anything. f may block.
func (g *Guest) SetDisconnect(f func(id string)) {
	g.guestMu.Lock()
	defer g.guestMu.Unlock()
	g.onLeave = f
}

// SetExec gives processes a behaviour. f may block; it then has to honour ctx.
func (g *Guest) SetExec(f func(ctx context.Context, p vm.Process, s vm.Streams) (int32, error)) {
	g.guestMu.Lock()
	defer g.guestMu.Unlock()
	g.onExec = f
}

// SetDial gives the guests' ports a behaviour.
func (g *Guest) SetDial(f func(ctx context.Context, port uint16) (net.Conn, error)) {
	g.guestMu.Lock()
	defer g.guestMu.Unlock()
	g.onDial = f
}

// Main returns the command that was started in the guest's present boot, nil if none was.
func (g *Guest) Main(id string) *vm.Main {
	return read(g, id, func(one *fakeGuest) *vm.Main { return one.main })
}

// Signals lists what the command was sent.
func (g *Guest) Signals(id string) []string {
	return read(g, id, func(one *fakeGuest) []string { return slices.Clone(one.signals) })
}

// Input is what attached clients have sent the command.
func (g *Guest) Input(id string) string {
	return read(g, id, func(one *fakeGuest) string { return string(one.input) })
}

// Prepared returns what the guest was told in its present boot.
func (g *Guest) Prepared(id string) (setup *vm.GuestSetup, files []vm.FileTree, shares []vm.ShareMount) {
	g.with(id, func(one *fakeGuest) { setup, files, shares = one.setup, one.files, one.shares })
	return setup, files, shares
}

// NICs are those that the guest was told of in its present boot.
func (g *Guest) NICs(id string) []vm.NIC {
	return read(g, id, func(one *fakeGuest) []vm.NIC { return one.nics })
}

// Connected lists the IDs that are connected to: a leak check.
func (g *Guest) Connected() []string {
	g.guestMu.Lock()
	defer g.guestMu.Unlock()
	var ids []string
	for id := range g.connected {
		ids = append(ids, id)
	}
	return ids
}

// Await returns once something is so in a guest, or with an error when ctx ends.
func (g *Guest) Await(ctx context.Context, what string, so func() bool) error {
	for {
		g.guestMu.Lock()
		changed := g.changed
		g.guestMu.Unlock()
		if so() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, ctx.Err())
		}
	}
}

func (g *Guest) with(id string, do func(*fakeGuest)) {
	g.guestMu.Lock()
	defer g.guestMu.Unlock()
	do(g.guest(id))
	g.changes.add(id)
	g.wake()
}

// wake lets all who wait look again. guestMu is held.
func (g *Guest) wake() {
	close(g.changed)
	g.changed = make(chan struct{})
}

func read[T any](g *Guest, id string, get func(*fakeGuest) T) (v T) {
	g.guestMu.Lock()
	defer g.guestMu.Unlock()
	return get(g.guest(id))
}
