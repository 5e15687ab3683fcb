// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"fmt"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// The controls of the fake: what guests, hosts and other people do. Those that need an
// active domain panic without one, since the test is then wrong. Event sequences are
// those that libvirt 9.0 was seen to send.

// PowerOff powers the guest off from inside.
func (h *Hypervisor) PowerOff(id string) {
	h.withActive(id, func(d *fakeDomain) { h.powerOff(id, d) })
}

// Panic panics the guest's kernel.
func (h *Hypervisor) Panic(id string) {
	h.withActive(id, func(d *fakeDomain) {
		h.emit(id, vm.EventPanicked, "panicked")
		h.stop(id, d, "crashed", "crashed")
	})
}

// Kill kills QEMU by SIGKILL, as the kernel's OOM killer does too.
func (h *Hypervisor) Kill(id string) {
	h.withActive(id, func(d *fakeDomain) { h.stop(id, d, "failed", "crashed") })
}

// Terminate ends QEMU by SIGTERM.
func (h *Hypervisor) Terminate(id string) {
	h.withActive(id, func(d *fakeDomain) {
		h.emit(id, vm.EventHostShutdown, "host")
		h.stop(id, d, "shutdown", "shutdown")
	})
}

// Reboot resets the guest from inside.
func (h *Hypervisor) Reboot(id string) {
	h.withActive(id, func(*fakeDomain) {
		h.emit(id, vm.EventRebooted, "")
		h.emit(id, vm.EventRebooted, "")
	})
}

// IOError pauses the guest as a failed disk does.
func (h *Hypervisor) IOError(id string) {
	h.withActive(id, func(d *fakeDomain) {
		d.state, d.reason = vm.DomainPaused, "ioerror"
		h.emit(id, vm.EventSuspended, "ioerror")
		h.emit(id, vm.EventIOError, "")
	})
}

// SetAgent opens or closes the port of qemu-guest-agent.
func (h *Hypervisor) SetAgent(id string, connected bool) {
	h.withActive(id, func(d *fakeDomain) {
		d.agent = connected
		kind := vm.EventAgentDisconnected
		if connected {
			kind = vm.EventAgentConnected
		}
		h.emit(id, kind, "channel")
	})
}

// SetStats sets what Stats returns for a domain while it is active.
func (h *Hypervisor) SetStats(id string, s vm.DomainStats) {
	h.withActive(id, func(d *fakeDomain) { d.stats = s })
}

// IgnorePowerButton makes all guests deaf to PowerButton from now on.
func (h *Hypervisor) IgnorePowerButton() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ignorePowerButton = true
}

// Disconnect loses libvirt: all calls fail as Unavailable and events are lost.
func (h *Hypervisor) Disconnect() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down = fmt.Errorf("libvirt does not answer: %w", errdefs.ErrUnavailable)
}

// Reconnect brings libvirt back and says so by EventReconnected.
func (h *Hypervisor) Reconnect() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down = nil
	h.emit("", vm.EventReconnected, "")
}

// Vanish removes a domain without a trace: no event, no log.
func (h *Hypervisor) Vanish(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.domains, id)
	h.wakeAwaitExit()
}

// RebootHost stops all domains without events or log lines, as a power loss does.
func (h *Hypervisor) RebootHost() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, d := range h.domains {
		if d.state.Active() {
			d.state, d.reason, d.pid, d.agent = vm.DomainShutoff, "unknown", 0, false
		}
	}
	h.wakeAwaitExit()
}

// AddForeign puts a domain there that has the sandbox's name but not our mark.
func (h *Hypervisor) AddForeign(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.foreign[id] = true
}

// Machine returns what the domain was last defined as.
func (h *Hypervisor) Machine(id string) (vm.Machine, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	d, ok := h.domains[id]
	if !ok {
		return vm.Machine{}, false
	}
	return d.machine, true
}

// Emit delivers any event; a zero At becomes now.
func (h *Hypervisor) Emit(ev vm.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.deliver(ev)
}

// SetClock sets the clock that events and log lines are stamped by.
func (h *Hypervisor) SetClock(now func() time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = now
}

func (h *Hypervisor) withActive(id string, do func(*fakeDomain)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	d, ok := h.domains[id]
	if !ok || !d.state.Active() {
		panic(fmt.Sprintf("lifecycletest: the domain of sandbox %s is not active", id))
	}
	do(d)
}

func (h *Hypervisor) powerOff(id string, d *fakeDomain) {
	h.emit(id, vm.EventGuestShutdown, "guest")
	h.stop(id, d, "shutdown", "shutdown")
}

// stop ends QEMU: libvirt has one word for the event and another for state and log.
func (h *Hypervisor) stop(id string, d *fakeDomain, event, reason string) {
	d.state, d.reason, d.pid, d.agent, d.stats = vm.DomainShutoff, reason, 0, false, vm.DomainStats{}
	d.last = &vm.LastShutdown{Reason: reason, At: h.now()}
	h.wakeAwaitExit()
	h.emit(id, vm.EventStopped, event)
}

func (h *Hypervisor) wakeAwaitExit() {
	close(h.ended)
	h.ended = make(chan struct{})
}

func (h *Hypervisor) emit(id string, kind vm.EventKind, detail string) {
	h.deliver(vm.Event{SandboxID: id, Kind: kind, Detail: detail})
}

func (h *Hypervisor) deliver(ev vm.Event) {
	if h.down != nil {
		return
	}
	if ev.At.IsZero() {
		ev.At = h.now()
	}
	select {
	case h.events <- ev:
	default:
		panic("lifecycletest: nobody reads the events of the fake hypervisor")
	}
}
