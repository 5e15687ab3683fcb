// SPDX-License-Identifier: Apache-2.0

package vm

import "time"

// Exit says how a container ended.
type Exit struct {
	// Code is that of the container's command, if it has one. Else it is 0 for an orderly end, 1 for a panic of the guest's kernel, 137 (128+SIGKILL)
	// for a VM that was killed, 143 (128+SIGTERM) for one that was terminated, 128 for one
	// that never started, 255 where nothing tells.
	Code int32 `json:"code"`
	// Reason is one CamelCase word for programs, one of the Reason constants.
	Reason string `json:"reason"`
	// Message is one sentence for people, "" if the reason says it all.
	Message string `json:"message,omitempty"`
	// At is when the VM ended, not when we noticed.
	At time.Time `json:"at"`
}

// Reasons of an exit, as ContainerStatus.reason shows them.
const (
	// ReasonCompleted: the guest powered itself off, or a stop was obeyed.
	ReasonCompleted = "Completed"
	// ReasonError: the container's command ended with another code than 0. The word is
	// containerd's.
	ReasonError = "Error"
	// ReasonStartError: the VM or the container's command could not be started.
	ReasonStartError = "StartError"
	// ReasonKilled: QEMU was killed from outside, or by us when a stop was forced.
	ReasonKilled = "Killed"
	// ReasonGuestPanicked: the guest's kernel panicked (pvpanic).
	ReasonGuestPanicked = "GuestPanicked"
	// ReasonOOMKilled: the kernel killed QEMU because the pod's cgroup was out of
	// memory. The word is the kubelet's.
	ReasonOOMKilled = "OOMKilled"
	// ReasonPoweredOff: PowerOff ended the VM, and the pod's policy is that its container ends with it.
	ReasonPoweredOff = "PoweredOff"
	// ReasonUnknown: the VM ended while vmlet was away, and nothing tells how.
	ReasonUnknown = "Unknown"
	// ReasonSuperseded: the container was never started and a newer attempt took its place.
	ReasonSuperseded = "Superseded"
	// ReasonNeverStarted: its sandbox was stopped before the container was started.
	ReasonNeverStarted = "NeverStarted"
)
