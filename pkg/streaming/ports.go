// SPDX-License-Identifier: Apache-2.0

package streaming

import (
	"context"
	"io"

	"github.com/vmlet/vmlet/pkg/vm"
)

// UseCases are what the streams of a client are connected to. All are safe for concurrent
// use and return errors that carry errdefs classes; their text is what the client's user
// reads. ctx ends when the client has gone or the daemon shuts down, and every Read and Write
// on the streams fails soon after: they may then be left to themselves.
type UseCases interface {
	// ExecStream runs a command in a container's guest to its end. When ctx ends first the
	// command is killed with its session. Stdin's io.EOF is the client having closed it;
	// what the command does not read is not waited for. With a tty there is no Stderr.
	ExecStream(ctx context.Context, containerID string, cmd []string, tty bool, s vm.Streams) (exitCode int32, err error)
	// Attach connects to what runs in the container already, the command or else the
	// console, until that has ended and all of its output was written (nil), or ctx ends.
	// Stdin's end is not the end of it.
	Attach(ctx context.Context, containerID string, s vm.Streams) error
	// PortForward connects a client to a TCP port of the sandbox's guest, and returns when
	// both directions have ended. stream.Read returns io.EOF when the client will send no
	// more; stream.Close tells the client the same and leaves the other direction open.
	PortForward(ctx context.Context, sandboxID string, port uint16, stream io.ReadWriteCloser) error
}
