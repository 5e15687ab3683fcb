// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/lifecycle"
	"github.com/vmlet/vmlet/pkg/vm"
)

var _ lifecycle.Guest = (*Guest)(nil)

// Guest is a lifecycle.Guest without guests. As made, vmlet-agent answers for every ID; a
// command runs until EndMain; Exec succeeds at once without output. What happens to guests
// is simulated by the methods of vmguest_controls.go; failures and delays are scripted by
// Script.
type Guest struct {
	Script

	guestMu   sync.Mutex
	guests    map[string]*fakeGuest
	mute      bool
	deaf      bool
	connected map[string]context.CancelFunc // and what ends the calls of those
	portless  map[string]bool
	// changed is closed and replaced whenever something has happened in a guest.
	changed    chan struct{}
	reboots    chan string
	changes    agentChanges
	onAck      func(id string)
	onShutdown func(id string)
	onLeave    func(id string)
	onExec     func(ctx context.Context, p vm.Process, s vm.Streams) (int32, error)
	onDial     func(ctx context.Context, port uint16) (net.Conn, error)
}

// fakeGuest is one guest in one of its boots.
type fakeGuest struct {
	boot   int
	silent bool
	// foreign: it has only qemu-guest-agent, which nobody knew.
	foreign bool
	setup   *vm.GuestSetup
	uses    map[string]string // of disks, by serial number
	files   []vm.FileTree
	shares  []vm.ShareMount
	nics    []vm.NIC
	// readdressed: see Readdress.
	readdressed map[string]vm.NIC

	main    *vm.Main
	exit    *vm.MainExit
	signals []string
	input   []byte

	inside inside
	still  stillness
}

// NewGuest returns a fake whose guests all have an agent.
func NewGuest() *Guest {
	return &Guest{
		guests: map[string]*fakeGuest{}, connected: map[string]context.CancelFunc{}, portless: map[string]bool{},
		changed: make(chan struct{}), reboots: make(chan string, eventCapacity), changes: newAgentChanges(),
	}
}

// guest returns a guest. guestMu is held.
func (g *Guest) guest(id string) *fakeGuest {
	if g.guests[id] == nil {
		g.guests[id] = &fakeGuest{silent: g.mute}
	}
	return g.guests[id]
}

// await returns once the agent answers, with guestMu held; then its caller unlocks.
func (g *Guest) await(ctx context.Context, method, id string, ready func(*fakeGuest) bool) (*fakeGuest, error) {
	for {
		g.guestMu.Lock()
		if g.portless[id] && method != "Exec" && method != "AwaitAny" {
			g.guestMu.Unlock()
			return nil, fmt.Errorf("%s in %s needs vmlet-agent: %w", method, id, errdefs.ErrNotImplemented)
		}
		one, changed := g.guest(id), g.changed
		if !one.silent && ready(one) {
			return one, nil
		}
		g.guestMu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("%s in %s: no agent answers: %w: %w", method, id, errdefs.ErrUnavailable, ctx.Err())
		}
	}
}

// call runs do on a guest whose agent answers.
func (g *Guest) call(ctx context.Context, method, id string, do func(*fakeGuest) error) error {
	if err := g.enter(ctx, method, id); err != nil {
		return err
	}
	one, err := g.await(ctx, method, id, func(*fakeGuest) bool { return true })
	if err != nil {
		return err
	}
	defer g.guestMu.Unlock()
	return do(one)
}

// Connect implements lifecycle.Guest.
func (g *Guest) Connect(id string) {
	g.guestMu.Lock()
	defer g.guestMu.Unlock()
	if g.connected[id] == nil {
		g.connected[id] = func() {}
		g.changes.add(id)
	}
}

// ConnectQGA implements lifecycle.Guest.
func (g *Guest) ConnectQGA(id string) {
	g.guestMu.Lock()
	defer g.guestMu.Unlock()
	g.portless[id] = true
}

// Disconnect implements lifecycle.Guest.
func (g *Guest) Disconnect(id string) {
	g.guestMu.Lock()
	onLeave := g.onLeave
	g.guestMu.Unlock()
	if onLeave != nil {
		onLeave(id)
	}
	g.guestMu.Lock()
	defer g.guestMu.Unlock()
	if end := g.connected[id]; end != nil {
		end()
	}
	delete(g.connected, id)
	delete(g.portless, id)
	g.changes.add(id)
}

// untilDisconnect returns a context that ends with the connection too.
func (g *Guest) untilDisconnect(ctx context.Context, id string) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	g.guestMu.Lock()
	defer g.guestMu.Unlock()
	if others := g.connected[id]; others != nil {
		g.connected[id] = func() { others(); cancel() }
	}
	return ctx, cancel
}

// AwaitAgent implements lifecycle.Guest.
func (g *Guest) AwaitAgent(ctx context.Context, id string) (bootID string, err error) {
	if err := g.enter(ctx, "AwaitAgent", id); err != nil {
		return "", err
	}
	one, err := g.await(ctx, "AwaitAgent", id, func(one *fakeGuest) bool { return !one.foreign })
	if err != nil {
		return "", err
	}
	defer g.guestMu.Unlock()
	return fmt.Sprint("boot-", one.boot), nil
}

// AwaitAny implements lifecycle.Guest.
func (g *Guest) AwaitAny(ctx context.Context, id string) (ours bool, err error) {
	err = g.call(ctx, "AwaitAny", id, func(one *fakeGuest) error {
		ours = !one.foreign && !g.portless[id]
		return nil
	})
	return ours, err
}

// Reboots implements lifecycle.Guest.
func (g *Guest) Reboots() <-chan string { return g.reboots }

// Setup implements lifecycle.Guest.
func (g *Guest) Setup(ctx context.Context, id string, s vm.GuestSetup) error {
	return g.call(ctx, "Setup", id, func(one *fakeGuest) error { one.setup = &s; return nil })
}

// Readdress implements lifecycle.Guest.
func (g *Guest) Readdress(ctx context.Context, id string, _, now vm.NIC) error {
	return g.call(ctx, "Readdress", id, func(one *fakeGuest) error {
		if one.readdressed == nil {
			one.readdressed = map[string]vm.NIC{}
		}
		one.readdressed[now.Name] = now
		return nil
	})
}

// Readdressed is what the guest's interfaces were readdressed to, by name, of those that were.
func (g *Guest) Readdressed(id string) map[string]vm.NIC {
	g.guestMu.Lock()
	defer g.guestMu.Unlock()
	return maps.Clone(g.guest(id).readdressed)
}

// SetNICs implements lifecycle.Guest.
func (g *Guest) SetNICs(ctx context.Context, id string, nics []vm.NIC) error {
	return g.call(ctx, "SetNICs", id, func(one *fakeGuest) error { one.nics = nics; return nil })
}

// Exec implements lifecycle.Guest.
func (g *Guest) Exec(ctx context.Context, id string, p vm.Process, s vm.Streams) (exitCode int32, err error) {
	var run func(context.Context, vm.Process, vm.Streams) (int32, error)
	if err := g.call(ctx, "Exec", id, func(*fakeGuest) error { run = g.onExec; return nil }); err != nil || run == nil {
		return 0, err
	}
	if len(p.Args) == 0 {
		return 0, fmt.Errorf("exec in %s: no command: %w", id, errdefs.ErrInvalidArgument)
	}
	ctx, cancel := g.untilDisconnect(ctx, id)
	defer cancel()
	return run(ctx, p, s)
}

// StartMain implements lifecycle.Guest.
func (g *Guest) StartMain(ctx context.Context, id string, m vm.Main) error {
	return g.call(ctx, "StartMain", id, func(one *fakeGuest) error {
		if one.main != nil && one.main.ID != m.ID {
			return fmt.Errorf("command %s runs: %w", one.main.ID, errdefs.ErrFailedPrecondition)
		}
		if one.main == nil {
			one.main = &m
			g.wake()
		}
		return nil
	})
}

// WaitMain implements lifecycle.Guest.
func (g *Guest) WaitMain(ctx context.Context, id, mainID string) (vm.MainExit, error) {
	if err := g.enter(ctx, "WaitMain", id); err != nil {
		return vm.MainExit{}, err
	}
	one, err := g.await(ctx, "WaitMain", id, func(one *fakeGuest) bool {
		return one.main == nil || one.main.ID != mainID || one.exit != nil
	})
	if err != nil {
		return vm.MainExit{}, err
	}
	defer g.guestMu.Unlock()
	if one.main == nil || one.main.ID != mainID {
		return vm.MainExit{}, noMain(mainID)
	}
	return *one.exit, nil
}

// AckMain implements lifecycle.Guest.
func (g *Guest) AckMain(ctx context.Context, id, mainID string) error {
	var f func(string)
	err := g.call(ctx, "AckMain", id, func(one *fakeGuest) error {
		if one.main == nil || one.main.ID != mainID || one.exit == nil {
			return noMain(mainID)
		}
		one.main, one.exit, f = nil, nil, g.onAck
		return nil
	})
	if err == nil && f != nil {
		f(id)
	}
	return err
}

// SignalMain implements lifecycle.Guest.
func (g *Guest) SignalMain(ctx context.Context, id, mainID, signal string) error {
	return g.call(ctx, "SignalMain", id, func(one *fakeGuest) error {
		if one.main == nil || one.main.ID != mainID || one.exit != nil {
			return noMain(mainID)
		}
		one.signals = append(one.signals, signal)
		g.wake()
		return nil
	})
}

// AttachMain implements lifecycle.Guest.
func (g *Guest) AttachMain(ctx context.Context, id, mainID string, stdin io.Reader, _ <-chan vm.TerminalSize) error {
	if err := g.call(ctx, "AttachMain", id, func(*fakeGuest) error { return nil }); err != nil {
		return err
	}
	given := make(chan error, 1)
	go func() {
		_, err := io.Copy(input{g, id}, stdin)
		given <- err
	}()
	for {
		g.guestMu.Lock()
		one, changed := g.guest(id), g.changed
		runs := one.main != nil && one.main.ID == mainID
		ended := one.exit != nil
		g.guestMu.Unlock()
		switch {
		case !runs:
			return noMain(mainID)
		case ended:
			return nil
		}
		select {
		case err := <-given:
			return err
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// input is the command's.
type input struct {
	g  *Guest
	id string
}

// Write implements io.Writer.
func (i input) Write(p []byte) (int, error) {
	i.g.with(i.id, func(one *fakeGuest) { one.input = append(one.input, p...) })
	return len(p), nil
}

// Dial implements lifecycle.Guest.
func (g *Guest) Dial(ctx context.Context, id string, port uint16) (net.Conn, error) {
	var dial func(context.Context, uint16) (net.Conn, error)
	if err := g.call(ctx, "Dial", id, func(*fakeGuest) error { dial = g.onDial; return nil }); err != nil {
		return nil, err
	}
	if dial == nil {
		return nil, fmt.Errorf("dial port %d: nothing listens: %w", port, errdefs.ErrUnavailable)
	}
	return dial(ctx, port)
}

// Shutdown implements lifecycle.Guest.
func (g *Guest) Shutdown(ctx context.Context, id string) error {
	if err := g.enter(ctx, "Shutdown", id); err != nil {
		return err
	}
	g.guestMu.Lock()
	one, f := g.guest(id), g.onShutdown
	g.guestMu.Unlock()
	if one.silent {
		return fmt.Errorf("shut down %s: no agent answers: %w", id, errdefs.ErrUnavailable)
	}
	if f != nil {
		f(id)
	}
	return nil
}

// Reboot implements lifecycle.Guest: by Boot, at once.
func (g *Guest) Reboot(ctx context.Context, id string) error {
	if err := g.enter(ctx, "Reboot", id); err != nil {
		return err
	}
	g.guestMu.Lock()
	silent, deaf := g.guest(id).silent, g.deaf
	g.guestMu.Unlock()
	if silent {
		return fmt.Errorf("reboot %s: no agent answers: %w", id, errdefs.ErrUnavailable)
	}
	if !deaf {
		g.Boot(id)
	}
	return nil
}

// MountShares implements lifecycle.Guest.
func (g *Guest) MountShares(ctx context.Context, id, _ string, mounts []vm.ShareMount) error {
	return g.call(ctx, "MountShares", id, func(one *fakeGuest) error { one.shares = mounts; return nil })
}

// UnmountShares implements lifecycle.Guest.
func (g *Guest) UnmountShares(ctx context.Context, id string) error {
	return g.call(ctx, "UnmountShares", id, func(one *fakeGuest) error { one.shares = nil; return nil })
}

// KeepFiles implements lifecycle.Guest.
func (g *Guest) KeepFiles(ctx context.Context, id, _ string, trees []vm.FileTree) error {
	return g.call(ctx, "KeepFiles", id, func(one *fakeGuest) error { one.files = trees; return nil })
}

// ReadFiles implements lifecycle.Guest: the content of a file is its path on the host.
func (*Guest) ReadFiles(trees []vm.FileTree) (files []vm.SeedFile, err error) {
	for _, t := range trees {
		files = append(files, vm.SeedFile{Path: t.GuestPath, Mode: 0o644, Content: []byte(t.HostPath), ReadOnly: t.ReadOnly})
	}
	return files, nil
}

// FetchFiles implements lifecycle.Guest.
func (g *Guest) FetchFiles(ctx context.Context, id string) error {
	return g.call(ctx, "FetchFiles", id, func(*fakeGuest) error { return nil })
}

func noMain(id string) error {
	return fmt.Errorf("command %s does not run in this boot: %w", id, errdefs.ErrNotFound)
}
