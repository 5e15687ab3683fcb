// SPDX-License-Identifier: Apache-2.0

package vm

import "time"

// VMEventKind says what happened to a VM, in the words that clients of Watch read. Kinds are added, none changes its
// meaning; each has a row in docs/vm-calls.md.
type VMEventKind string

// Kinds that the use cases tell by themselves, of what is on record or what an agent does.
const (
	// VMAbsentEvent: the pod's sandbox is there and has no VM: none was made yet, or its container was removed.
	VMAbsentEvent VMEventKind = "absent"
	// VMCreatedEvent: the VM is defined, and was not started yet.
	VMCreatedEvent VMEventKind = "created"
	// VMRunningEvent: the VM was started. Its guest boots.
	VMRunningEvent VMEventKind = "running"
	// VMPausedEvent and VMResumedEvent: somebody halted the guest's CPUs, or let them go on.
	VMPausedEvent  VMEventKind = "paused"
	VMResumedEvent VMEventKind = "resumed"
	// VMPoweredOffEvent: PowerOff has ended the VM, and its container is held. VMRunningEvent follows when it is powered on.
	VMPoweredOffEvent VMEventKind = "powered-off"
	// VMRebootingEvent: the guest is being asked to boot anew. One of the next two follows, or VMExitedEvent.
	VMRebootingEvent VMEventKind = "rebooting"
	// VMRebootedEvent: the guest has booted anew, whoever wanted it. VMEvent.BootID is the boot's, where vmlet-agent tells
	// it; without one libvirt tells, and may tell of one reboot more than once.
	VMRebootedEvent VMEventKind = "rebooted"
	// VMRebootFailedEvent: no reboot was seen in time, and the VM is as it was. VMEvent.Message says why.
	VMRebootFailedEvent VMEventKind = "reboot-failed"
	// VMExitedEvent: the VM has ended. VMEvent.Reason, Message and ExitCode say how. Its agents went down before.
	VMExitedEvent VMEventKind = "exited"
	// VMRemovedEvent: the pod's sandbox is gone, and nothing more is told of it.
	VMRemovedEvent VMEventKind = "removed"
	// AgentUpEvent and AgentDownEvent: an agent in the guest, VMEvent.Agent, answers, or answers no more.
	AgentUpEvent   VMEventKind = "agent-up"
	AgentDownEvent VMEventKind = "agent-down"
)

// Kinds that a use case tells when what it did is on record: see Service.tell. VMEvent.Subject names what it is about.
const (
	NICAttachedEvent VMEventKind = "nic-attached"
	NICDetachedEvent VMEventKind = "nic-detached"
	NICLinkEvent     VMEventKind = "nic-link" // Reason is "up" or "down"

	DiskAttachedEvent VMEventKind = "disk-attached"
	DiskDetachedEvent VMEventKind = "disk-detached"
	DiskResizedEvent  VMEventKind = "disk-resized"

	// VMResizedEvent: the VM has other CPUs or other memory.
	VMResizedEvent VMEventKind = "resized"

	SnapshotCreatedEvent  VMEventKind = "snapshot-created"
	SnapshotRestoredEvent VMEventKind = "snapshot-restored"
	SnapshotDeletedEvent  VMEventKind = "snapshot-deleted"

	// OperationEvent: the operation Subject, an ID, has begun or ended. Reason is its state, Message what it does and, if
	// it failed, why.
	OperationEvent VMEventKind = "operation"
)

// VMEvent is something that happened to a VM. Who tells one gives SandboxID, Kind and what the kind asks for; the rest is
// filled in.
type VMEvent struct {
	SandboxID string
	Kind      VMEventKind
	// Subject is the NIC, disk, snapshot or operation that it is about, by name or ID.
	Subject string
	// Reason is one word, Message a sentence. Both reach every client: no secrets.
	Reason, Message string
	// ExitCode is that of the container, for VMExitedEvent.
	ExitCode int32
	// Agent is AgentVMlet or AgentQEMU, BootID what vmlet-agent tells of its guest's boot.
	Agent  GuestAgentKind
	BootID string

	Namespace, Pod string
	// ContainerID is the container that had the VM then, "" for none.
	ContainerID string
	At          time.Time
}

// VMState is where the VM of a sandbox stands.
type VMState string

// The states of a VM. Each is the word of the event that leads to it, but for VMRunning, to which VMResumedEvent does too.
const (
	VMAbsent  VMState = "absent"
	VMCreated VMState = "created"
	VMRunning VMState = "running"
	VMPaused  VMState = "paused"
	VMOff     VMState = "powered-off"
	VMExited  VMState = "exited"
)

// VMStatus is the VM of a sandbox as it is now.
type VMStatus struct {
	SandboxID, Namespace, Pod, ContainerID string

	State VMState
	// Rebooting: the guest was asked to boot anew, and was not seen to yet.
	Rebooting bool
	// Exit is set for VMExited.
	Exit *Exit
	// BootID is that of the guest, "" if no vmlet-agent has told one since the VM was started or vmlet was.
	BootID string
	// Answering tells whether vmlet-agent does now, QGA whether the guest has qemu-guest-agent's port open.
	Answering, QGA bool
	// RuntimeHandler is the pod's.
	RuntimeHandler string
}

// WatchMessage is one message of a watch: an event, a VM as it is now, or neither, once all that was to be told so far is.
type WatchMessage struct {
	// Token is where a later watch goes on, behind this message. "" as long as it must begin anew.
	Token   string
	Event   *VMEvent
	Present *VMStatus
}
