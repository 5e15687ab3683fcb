// SPDX-License-Identifier: Apache-2.0

package vm

// Console is one container's serial console: what QEMU writes, and where it goes.
type Console struct {
	ContainerID string
	// Spool is the file that QEMU appends the serial output to.
	Spool string
	// Checkpoint is the file that remembers how much of the spool is in the log.
	Checkpoint string
	// Log is the CRI log file, "" for none: the spool is then consumed unread.
	Log string
}
