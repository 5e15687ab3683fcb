// SPDX-License-Identifier: Apache-2.0

package vm

// CheckLevel says how much a finding about the host matters.
type CheckLevel string

// Levels of a finding.
const (
	// CheckOK: as it should be.
	CheckOK CheckLevel = "ok"
	// CheckWarn: VMs run, but slower, less safe or less true than they could.
	CheckWarn CheckLevel = "warn"
	// CheckFail: VMs cannot run.
	CheckFail CheckLevel = "fail"
)

// Check is one finding about the host.
type Check struct {
	// Name is short and stable, such as "libvirt" or "kvm-device".
	Name  string
	Level CheckLevel
	// Summary is what was found, one line.
	Summary string
	// Mend is what to do about it, "" for CheckOK.
	Mend string
}
