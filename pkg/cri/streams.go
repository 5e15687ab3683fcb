// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"github.com/vmlet/vmlet/pkg/streaming"
)

// Streams promises streams: each method returns the URL at which a client gets what it
// asked for. IDs are whole.
type Streams interface {
	Exec(containerID string, cmd []string, want streaming.Wanted) (url string, err error)
	Attach(containerID string, want streaming.Wanted) (url string, err error)
	PortForward(sandboxID string, ports []int32) (url string, err error)
}

// checkWanted refuses what the CRI does: "If tty is true, stderr MUST be false", and "One of
// stdin, stdout, and stderr MUST be true".
func checkWanted(want streaming.Wanted) error {
	if want.TTY && want.Stderr {
		return invalid("stderr", "a terminal has no stderr of its own: tty and stderr exclude each other")
	}
	if !want.Stdin && !want.Stdout && !want.Stderr {
		return invalid("stdout", "one of stdin, stdout and stderr must be true")
	}
	return nil
}
