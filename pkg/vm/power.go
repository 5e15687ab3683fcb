// SPDX-License-Identifier: Apache-2.0

package vm

import "time"

// RebootMode is a way to have a guest boot anew.
type RebootMode string

// The ways.
const (
	// RebootAny leaves the choice: by vmlet-agent where one answers, else by ACPI.
	RebootAny RebootMode = ""
	// RebootAgent asks the guest's agent, and the guest reboots in its own way.
	RebootAgent RebootMode = "agent"
	// RebootACPI presses the power button, and a guest that powers off for it is booted again, by another QEMU.
	RebootACPI RebootMode = "acpi"
	// RebootReset resets the machine at once, as its reset button does: what the guest has not written is lost.
	RebootReset RebootMode = "reset"
)

// RebootRequest is what the caller of a reboot asks for.
type RebootRequest struct {
	Mode RebootMode
	// Delay is the time before the guest is asked.
	Delay time.Duration
	// Wait is how long after that the reboot is waited for; 0 for the default.
	Wait time.Duration
}

// Rebooted says how a guest was booted anew.
type Rebooted struct {
	// Mode is the way that worked.
	Mode RebootMode
	// Was and Boot are the guest's boot IDs before and after it, "" where no vmlet-agent tells them: the reboot was then
	// seen by libvirt alone.
	Was, Boot string
}

// RebootIntent records that a guest is to be booted anew, so that a restarted daemon knows what a poweroff means.
type RebootIntent struct {
	// ID is random: it tells one reboot from the one that takes its place.
	ID string `json:"id"`
	// Mode is never RebootAny once Asked.
	Mode        RebootMode `json:"mode,omitempty"`
	RequestedAt time.Time  `json:"requestedAt"`
	// Begin is when the guest is asked, Deadline when the reboot is given up.
	Begin    time.Time `json:"begin"`
	Deadline time.Time `json:"deadline"`
	// Asked is set before the guest is asked, with Was, its boot ID by then.
	Asked bool   `json:"asked,omitempty"`
	Was   string `json:"was,omitempty"`
	// Pressed is set where an earlier reboot, whose place this one has taken, has pressed the power button.
	Pressed bool `json:"pressed,omitempty"`
	// Booting is set when the guest has powered off, before it is booted again.
	Booting bool `json:"booting,omitempty"`
}
