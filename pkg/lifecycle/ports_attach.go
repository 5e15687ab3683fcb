// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"io"

	"github.com/vmlet/vmlet/pkg/vm"
)

// ConsoleStreams connects clients to what containers say and hear, beside the log. A
// container that has a command's output and a serial console is heard by the former.
type ConsoleStreams interface {
	// Subscribe keeps, from now on, what the container says for one more client. deliver
	// writes it, as it comes, and returns nil when the output was finished and all of it
	// written, or the error of ctx or of a writer; it must be called, once. stderr is only
	// a command's; nil leaves a stream out. A Write that blocks holds up nobody else: what
	// no longer fits the client's buffer is skipped, and a line says how much. NotFound if
	// the container is not followed.
	Subscribe(ctx context.Context, containerID string) (deliver func(ctx context.Context, stdout, stderr io.Writer) error, err error)
	// SendInput types stdin into a serial console, whose terminal is device
	// (Hypervisor.ConsoleDevice), until stdin ends (nil), ctx does, or the machine
	// (Unavailable). The console has no size: it is never told one.
	SendInput(ctx context.Context, device string, stdin io.Reader) error
	// SubscribeSerial is Subscribe for the serial console, also that of a container that has a command, and from up to
	// replay bytes before now on: as far as they are still there, and from the beginning of a line.
	SubscribeSerial(ctx context.Context, containerID string, replay int64) (deliver func(ctx context.Context, output io.Writer) error, err error)
	// OpenInput opens a serial console, as for SendInput, to type into it. What the guest says is not heard there.
	// Unavailable if the machine is gone.
	OpenInput(device string) (vm.ConsoleInput, error)
}
