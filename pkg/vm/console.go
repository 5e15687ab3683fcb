// SPDX-License-Identifier: Apache-2.0

package vm

// Console is what one container says, and where it goes: the output of its command, or of
// the serial console. A container has at most one of each format.
type Console struct {
	ContainerID string
	// Format says what the spool holds.
	Format ConsoleFormat
	// Spool is the file that QEMU appends the output to.
	Spool string
	// Checkpoint is the file that remembers how much of the spool is in the log.
	Checkpoint string
	// Log is the CRI log file, "" for none: the spool is then consumed unread.
	Log string
}

// ConsoleFormat is how output stands in a spool.
type ConsoleFormat string

// Formats of spools.
const (
	// ConsoleRaw are the bytes of a serial console, as the guest wrote them.
	ConsoleRaw ConsoleFormat = ""
	// ConsoleRecords are the records of a command's stdout and stderr (pkg/agentlink/record).
	ConsoleRecords ConsoleFormat = "records"
)
