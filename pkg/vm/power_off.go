// SPDX-License-Identifier: Apache-2.0

package vm

import "time"

// PowerOffPolicy says what the CRI is told of a container whose VM was powered off (annotation vmlet.io/power-off).
type PowerOffPolicy string

// The policies.
const (
	// PowerOffHeld: the container stays RUNNING, and PowerOn boots its VM again. The default.
	PowerOffHeld PowerOffPolicy = "held"
	// PowerOffExits: the container ends, with ReasonPoweredOff. Who orchestrates it decides what comes then.
	PowerOffExits PowerOffPolicy = "exits"
)

// PowerOffMode is a way to power a VM off.
type PowerOffMode string

// The ways.
const (
	// PowerOffGuest asks the guest, by ACPI and by its agent. One that has not powered off in time is left as it is.
	PowerOffGuest PowerOffMode = "guest"
	// PowerOffGuestThenForce asks the guest, and pulls the plug of one that has not powered off in time.
	PowerOffGuestThenForce PowerOffMode = "guest-then-force"
	// PowerOffForce pulls the plug at once: what the guest has not written is lost.
	PowerOffForce PowerOffMode = "force"
)

// PowerOffRequest is what the caller of a poweroff asks for.
type PowerOffRequest struct {
	// Mode is PowerOffGuest if it is "".
	Mode PowerOffMode
	// Wait is how long the guest may take; 0 for the default.
	Wait time.Duration
}

// PoweredOff says what came of a poweroff.
type PoweredOff struct {
	// Policy is what became of the container.
	Policy PowerOffPolicy
	// Forced: the plug was pulled.
	Forced bool
}

// PowerOnRequest is what the caller of a power on asks for.
type PowerOnRequest struct {
	// Paused leaves the guest's CPUs halted until it is resumed.
	Paused bool
}

// PowerOff records that a VM is to be powered off, or is off while its container is held.
//
//	PowerOff -> asked --- the guest is off, or the plug was pulled ---> off --- PowerOn ---> Booting ---> (no intent)
//	              |                                                      ^                      |
//	              `--- not in time ---> (no intent)                      `--- cannot be booted -'
type PowerOff struct {
	// ID is random: it tells one poweroff from the next.
	ID          string       `json:"id"`
	Mode        PowerOffMode `json:"mode"`
	RequestedAt time.Time    `json:"requestedAt"`
	// Deadline is when the poweroff is given up, or forced.
	Deadline time.Time `json:"deadline"`
	// Forced is set before the domain is destroyed.
	Forced bool `json:"forced,omitempty"`
	// OffAt is when the VM ended. It is off from then on.
	OffAt time.Time `json:"offAt,omitzero"`
	// Booting is set before the VM is powered on again, with Paused where its CPUs are to stay halted.
	Booting bool `json:"booting,omitempty"`
	Paused  bool `json:"paused,omitempty"`
}

// Off reports whether the VM was powered off while its container is held: nothing of the guest runs.
func (s ContainerStatus) Off() bool {
	return s.State == ContainerRunning && s.PowerOff != nil && !s.PowerOff.OffAt.IsZero()
}

// Runs reports whether the container has a VM that runs, or is paused.
func (s ContainerStatus) Runs() bool { return s.State == ContainerRunning && !s.Off() }
