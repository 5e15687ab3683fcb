// SPDX-License-Identifier: Apache-2.0

package vm

import "io"

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

// ConsoleRequest is what who comes to a serial console asks for.
type ConsoleRequest struct {
	// Write asks to type into it, which one may at a time; Force takes the place of who does.
	Write, Force bool
	// Replay is how many bytes of what was said last are wanted first, as far as they are still there.
	Replay int64
}

// ConsoleClient is who watches a serial console, and may type. Its functions are called by one goroutine each.
type ConsoleClient struct {
	// Opened is told the sandbox, before anything is said.
	Opened func(sandboxID string) error
	// Output takes what is said.
	Output io.Writer
	// Input is what is typed. It ends when it is closed: who types no more still watches. nil for who does not type.
	Input <-chan []byte
	// Typed is told that Input has ended and was passed on, or dropped.
	Typed func()
	// TakenOver is told that somebody else types from now on: what Input brings is dropped.
	TakenOver func()
}

// ConsoleInput is an open serial console, to type into. It is for one goroutine, but for Close.
type ConsoleInput interface {
	// Write types. It blocks while the guest does not read, until Close; Unavailable when the machine is gone.
	io.Writer
	// Gone is closed when the machine is gone, or soon after Close.
	Gone() <-chan struct{}
	// Close ends it at once: nothing more goes in. What was typed before reaches the guest. Idempotent.
	Close()
}
