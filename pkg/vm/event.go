// SPDX-License-Identifier: Apache-2.0

package vm

import "time"

// EventKind says what happened to a domain.
type EventKind string

// Kinds of events. The names follow libvirt's lifecycle events and their details;
// several events may tell of one end (a guest's poweroff gives GuestShutdown, then
// Stopped), so whoever listens folds them.
const (
	// EventStarted: QEMU runs, paused or not.
	EventStarted EventKind = "Started"
	// EventResumed: the guest's CPUs run.
	EventResumed EventKind = "Resumed"
	// EventSuspended: the guest's CPUs are halted; Event.Detail says why.
	EventSuspended EventKind = "Suspended"
	// EventIOError: a disk failed and libvirt paused the guest for it.
	EventIOError EventKind = "IOError"
	// EventGuestShutdown: the guest powered itself off; Stopped follows.
	EventGuestShutdown EventKind = "GuestShutdown"
	// EventHostShutdown: QEMU was told to end by a signal; Stopped follows.
	EventHostShutdown EventKind = "HostShutdown"
	// EventPanicked: the guest's kernel panicked; Stopped follows.
	EventPanicked EventKind = "Panicked"
	// EventRebooted: the guest reset itself. One reboot may give several.
	EventRebooted EventKind = "Rebooted"
	// EventStopped: QEMU is gone. Event.Detail holds libvirt's own word for why:
	// "shutdown", "destroyed", "crashed", "failed", "migrated", "saved".
	EventStopped EventKind = "Stopped"
	// EventAgentConnected and EventAgentDisconnected: the guest opened or closed the
	// port of qemu-guest-agent.
	EventAgentConnected    EventKind = "AgentConnected"
	EventAgentDisconnected EventKind = "AgentDisconnected"
	// EventShareLost: the virtiofsd behind the guest's share ended while QEMU runs. What
	// the guest asks of the share hangs until it has a new one.
	EventShareLost EventKind = "ShareLost"
	// EventDeviceRemoved: the guest has let go of a device that it was asked for. Event.Detail is
	// libvirt's alias of it.
	EventDeviceRemoved EventKind = "DeviceRemoved"
	// EventNICRemoved: the guest has let go of a NIC's device; Event.Detail is the name of its tap.
	EventNICRemoved EventKind = "NICRemoved"
	// EventMemorySize: the guest has taken or given back some of the memory that it was told to.
	EventMemorySize EventKind = "MemorySize"
	// EventReconnected has no SandboxID: the connection to libvirt was lost and is back,
	// subscribed again; events in between are lost, so the listener lists all domains.
	EventReconnected EventKind = "Reconnected"
)

// Event is something that happened to the domain of one of our sandboxes.
type Event struct {
	SandboxID string
	Kind      EventKind
	Detail    string
	// At is when the adapter received the event.
	At time.Time
}

// DomainState is the state of a domain, as far as vmlet tells states apart.
type DomainState string

// Domain states.
const (
	// DomainAbsent: libvirt knows no such domain.
	DomainAbsent DomainState = "Absent"
	// DomainShutoff: defined, no QEMU.
	DomainShutoff DomainState = "Shutoff"
	// DomainPaused: QEMU is there, the CPUs are halted.
	DomainPaused DomainState = "Paused"
	// DomainRunning: the guest runs (libvirt's running, blocked, and being shut down).
	DomainRunning DomainState = "Running"
	// DomainCrashed: the guest panicked and QEMU is kept or just going.
	DomainCrashed DomainState = "Crashed"
)

// Active reports whether a QEMU process stands behind the domain.
func (s DomainState) Active() bool { return s == DomainPaused || s == DomainRunning }

// Domain is one of our domains as libvirt shows it.
type Domain struct {
	// SandboxID and Owner come from the domain's metadata.
	SandboxID string
	Owner     string
	Name      string
	State     DomainState
	// Reason is libvirt's word for the state's reason, such as "crashed", "destroyed",
	// "shutdown", "starting up", "ioerror".
	Reason string
	// AgentConnected is whether the guest has qemu-guest-agent's port open. A look at a single domain leaves it out.
	AgentConnected bool
}

// LastShutdown is what QEMU's log says about its last end.
type LastShutdown struct {
	// Reason is the log's word: "shutdown", "destroyed", "crashed", "failed", ...
	Reason string
	At     time.Time
}
