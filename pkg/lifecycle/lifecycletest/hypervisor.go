// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/lifecycle"
	"github.com/vmlet/vmlet/pkg/vm"
)

var _ lifecycle.Hypervisor = (*Hypervisor)(nil)

// Hypervisor is a lifecycle.Hypervisor in memory, with libvirt's states, reasons and
// event sequences. What happens to a guest from inside or outside is simulated by the
// methods of hypervisor_controls.go; failures and delays are scripted by Script.
type Hypervisor struct {
	Script

	mu      sync.Mutex
	domains map[string]*fakeDomain
	foreign map[string]bool
	down    error
	nextPID int
	// ended is closed and replaced whenever a domain ends.
	ended  chan struct{}
	now    func() time.Time
	events chan vm.Event

	ignorePowerButton bool
	// disks are the files that machines have open: see UseDisks.
	disks     *Disks
	holdDisks bool
	diskPorts int
	files     *Disks
	sizes     map[string]int64

	// writing is by domain the memory that is being written: see HoldSaving.
	writing map[string]*writing

	// holdNICs: guests let go of none; released is closed and replaced when they do again.
	holdNICs bool
	released chan struct{}
	// ports is how many NICs a machine may have.
	ports int
	// bounds: see BoundMemory.
	bounds memoryBounds
}

type fakeDomain struct {
	machine vm.Machine
	state   vm.DomainState
	reason  string
	pid     int
	agent   bool
	// lost: the process of the share has died.
	lost bool
	// shareAway: the device of the share is not in the running machine.
	shareAway bool
	// nics are those of the running machine, by tap.
	nics  map[string]vm.NIC
	stats vm.DomainStats
	// saving: see SetSaving.
	saving bool
	// progress is what Progress tells.
	progress vm.Progress
	last     *vm.LastShutdown
	// live are the disks of the running machine, with the files that QEMU has open.
	live []fakeDisk
	size vm.LiveSize
}

// firstPID is above the largest pid_max of Linux (2^22): no test that signals the
// process of a fake can hit a real one.
const firstPID = 1<<22 + 1

// eventCapacity is more than any test emits without listening.
const eventCapacity = 1 << 14

// NewHypervisor returns a fake without domains, connected.
func NewHypervisor() *Hypervisor {
	return &Hypervisor{
		sizes:    map[string]int64{},
		writing:  map[string]*writing{},
		disks:    NewDisks(),
		domains:  map[string]*fakeDomain{},
		foreign:  map[string]bool{},
		nextPID:  firstPID,
		ended:    make(chan struct{}),
		released: make(chan struct{}),
		ports:    8,
		now:      time.Now,
		events:   make(chan vm.Event, eventCapacity),
	}
}

// Ready implements lifecycle.Hypervisor.
func (h *Hypervisor) Ready(ctx context.Context) error {
	return h.call(ctx, "Ready", "", func() error { return nil })
}

// Host implements lifecycle.Hypervisor: what Debian 12 can.
func (*Hypervisor) Host(context.Context, vm.Accel) (vm.Host, error) {
	return vm.Host{
		Libvirt: "9.0.0", QEMU: "7.2.19", NoKVM: "the CPU shows neither vmx nor svm (/proc/cpuinfo)",
		Devices:   map[string][]string{"filesystem.driverType": {"path", "handle", "virtiofs"}, "graphics.type": {"vnc"}},
		Firmwares: []string{"efi"}, Loaders: []string{"/usr/share/OVMF/OVMF_CODE_4M.fd"},
	}, nil
}

// Define implements lifecycle.Hypervisor.
func (h *Hypervisor) Define(ctx context.Context, m vm.Machine) error {
	return h.call(ctx, "Define", m.SandboxID, func() error {
		d, ok := h.domains[m.SandboxID]
		if !ok {
			h.domains[m.SandboxID] = &fakeDomain{machine: m, state: vm.DomainShutoff, reason: "unknown"}
			return nil
		}
		if d.state.Active() {
			return refused(m.SandboxID, "it is active")
		}
		d.machine = m
		return nil
	})
}

// Start implements lifecycle.Hypervisor.
func (h *Hypervisor) Start(ctx context.Context, id string) error {
	return h.callDomain(ctx, "Start", id, func(d *fakeDomain) error {
		return h.start(id, d, "booted")
	})
}

// Resume implements lifecycle.Hypervisor.
func (h *Hypervisor) Resume(ctx context.Context, id string) error {
	return h.callDomain(ctx, "Resume", id, func(d *fakeDomain) error {
		switch d.state {
		case vm.DomainRunning:
			return nil
		case vm.DomainPaused:
			d.state, d.reason = vm.DomainRunning, "unpaused"
			h.emit(id, vm.EventResumed, "unpaused")
			h.follow(id, d)
			return nil
		default:
			return refused(id, "it is not active")
		}
	})
}

// Pause implements lifecycle.Hypervisor.
func (h *Hypervisor) Pause(ctx context.Context, id string) error {
	return h.callDomain(ctx, "Pause", id, func(d *fakeDomain) error {
		switch d.state {
		case vm.DomainPaused:
			return nil
		case vm.DomainRunning:
			d.state, d.reason = vm.DomainPaused, "user"
			h.emit(id, vm.EventSuspended, "paused")
			return nil
		default:
			return refused(id, "it is not active")
		}
	})
}

// Reset implements lifecycle.Hypervisor.
func (h *Hypervisor) Reset(ctx context.Context, id string) error {
	return h.callDomain(ctx, "Reset", id, func(d *fakeDomain) error {
		if d.state != vm.DomainRunning {
			return refused(id, "it is not running")
		}
		h.letGo(id, d) // QEMU grants what was asked for
		h.emit(id, vm.EventRebooted, "")
		return nil
	})
}

// PID implements lifecycle.Hypervisor.
func (h *Hypervisor) PID(ctx context.Context, id string) (int, error) {
	var pid int
	err := h.callDomain(ctx, "PID", id, func(d *fakeDomain) error {
		if !d.state.Active() {
			return refused(id, "it is not active")
		}
		pid = d.pid
		return nil
	})
	return pid, err
}

// ConsoleDevice implements lifecycle.Hypervisor: with a path that nothing is at.
func (h *Hypervisor) ConsoleDevice(ctx context.Context, id string) (string, error) {
	device := ""
	err := h.callDomain(ctx, "ConsoleDevice", id, func(d *fakeDomain) error {
		if !d.state.Active() {
			return refused(id, "it is not active")
		}
		device = "/nowhere/pts/" + id
		return nil
	})
	return device, err
}

// PowerButton implements lifecycle.Hypervisor. A running guest obeys at once unless
// IgnorePowerButton was called.
func (h *Hypervisor) PowerButton(ctx context.Context, id string) error {
	return h.callDomain(ctx, "PowerButton", id, func(d *fakeDomain) error {
		if d.state != vm.DomainRunning {
			return refused(id, "it is not running")
		}
		if !h.ignorePowerButton {
			h.powerOff(id, d)
		}
		return nil
	})
}

// Destroy implements lifecycle.Hypervisor.
func (h *Hypervisor) Destroy(ctx context.Context, id string) error {
	return h.call(ctx, "Destroy", id, func() error {
		d, ok := h.domains[id]
		if !ok || !d.state.Active() {
			return nil
		}
		// libvirt ends QEMU by SIGTERM, and QEMU says so.
		h.emit(id, vm.EventHostShutdown, "host")
		h.stop(id, d, "destroyed", "destroyed")
		return nil
	})
}

// Undefine implements lifecycle.Hypervisor.
func (h *Hypervisor) Undefine(ctx context.Context, id string) error {
	return h.call(ctx, "Undefine", id, func() error {
		d, ok := h.domains[id]
		if !ok {
			return nil
		}
		if d.state.Active() {
			return refused(id, "it is active")
		}
		delete(h.domains, id)
		return nil
	})
}

// Domain implements lifecycle.Hypervisor.
func (h *Hypervisor) Domain(ctx context.Context, id string) (vm.Domain, error) {
	out := vm.Domain{SandboxID: id, State: vm.DomainAbsent}
	err := h.call(ctx, "Domain", id, func() error {
		if d, ok := h.domains[id]; ok {
			out = d.show()
			out.AgentConnected = false
		}
		return nil
	})
	return out, err
}

// Domains implements lifecycle.Hypervisor.
func (h *Hypervisor) Domains(ctx context.Context) ([]vm.Domain, error) {
	var out []vm.Domain
	err := h.call(ctx, "Domains", "", func() error {
		for _, d := range h.domains {
			out = append(out, d.show())
		}
		return nil
	})
	return out, err
}

// Stats implements lifecycle.Hypervisor.
func (h *Hypervisor) Stats(ctx context.Context) ([]vm.DomainStats, error) {
	var out []vm.DomainStats
	err := h.call(ctx, "Stats", "", func() error {
		for id, d := range h.domains {
			if !d.state.Active() {
				continue
			}
			s := d.stats
			s.SandboxID = id
			out = append(out, s)
		}
		return nil
	})
	return out, err
}

// LastShutdown implements lifecycle.Hypervisor.
func (h *Hypervisor) LastShutdown(ctx context.Context, id string) (vm.LastShutdown, error) {
	var out vm.LastShutdown
	err := h.callDomain(ctx, "LastShutdown", id, func(d *fakeDomain) error {
		if d.last == nil {
			return fmt.Errorf("domain of sandbox %s has never ended: %w", id, errdefs.ErrNotFound)
		}
		out = *d.last
		return nil
	})
	return out, err
}

// AwaitExit implements lifecycle.Hypervisor.
func (h *Hypervisor) AwaitExit(ctx context.Context, id string) error {
	if err := h.enter(ctx, "AwaitExit", id); err != nil {
		return err
	}
	return h.awaitEnd(ctx, id)
}

func (h *Hypervisor) awaitEnd(ctx context.Context, id string) error {
	for {
		h.mu.Lock()
		d, ok := h.domains[id]
		active, ended := ok && d.state.Active(), h.ended
		h.mu.Unlock()
		if !active {
			return nil
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Events implements lifecycle.Hypervisor.
func (h *Hypervisor) Events() <-chan vm.Event { return h.events }

// call runs a method under the fake's lock, unless it fails by script, libvirt is down,
// or the domain is someone else's.
func (h *Hypervisor) call(ctx context.Context, method, id string, do func() error) error {
	var args []string
	if id != "" {
		args = append(args, id)
	}
	if err := h.enter(ctx, method, args...); err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.down != nil {
		return fmt.Errorf("%s: %w", method, h.down)
	}
	if h.foreign[id] {
		return refused(id, "it is not ours")
	}
	return do()
}

// callDomain is call for a method that is NotFound without a domain.
func (h *Hypervisor) callDomain(ctx context.Context, method, id string, do func(*fakeDomain) error) error {
	return h.call(ctx, method, id, func() error {
		d, ok := h.domains[id]
		if !ok {
			return fmt.Errorf("%s: domain of sandbox %s: %w", method, id, errdefs.ErrNotFound)
		}
		return do(d)
	})
}

func (d *fakeDomain) show() vm.Domain {
	return vm.Domain{
		SandboxID: d.machine.SandboxID, Owner: d.machine.Owner, Name: d.machine.Name,
		State: d.state, Reason: d.reason, AgentConnected: d.agent,
	}
}

func refused(id, why string) error {
	return fmt.Errorf("domain of sandbox %s: %s: %w", id, why, errdefs.ErrFailedPrecondition)
}
