// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"io"
	"net"

	"github.com/vmlet/vmlet/pkg/vm"
)

// Guest speaks to the agent in a sandbox's guest: vmlet-agent, on a port of its own that
// QEMU has a socket for, or the image's qemu-guest-agent for the little that one can do.
// Calls of one sandbox never hold up another's. While no agent answers, a call waits for
// one until ctx ends; its error then says so and is Unavailable beside ctx's. What only
// vmlet-agent can do is NotImplemented, by name, in a guest that has but the other. What a
// guest answers is bounded and never trusted.
type Guest interface {
	GuestDisks
	GuestCalls
	GuestStill

	// Connect begins to dial the guest's agent, and goes on over reboots of the guest and
	// restarts of its agent, until Disconnect. It returns at once. Idempotent.
	Connect(id string)
	// ConnectQGA says that the machine has no port for vmlet-agent, in place of Connect: what
	// only that can do is then NotImplemented at once. Idempotent.
	ConnectQGA(id string)
	// Disconnect ends the session and all calls that use it. Idempotent.
	Disconnect(id string)
	// AwaitAgent returns once vmlet-agent answers: with the boot ID of its guest.
	AwaitAgent(ctx context.Context, id string) (bootID string, err error)
	// AwaitAny returns once an agent answers, and whether that is vmlet-agent.
	AwaitAny(ctx context.Context, id string) (ours bool, err error)
	// Reboots delivers the sandbox's ID each time its agent comes up in a boot that is not
	// the one of the session before. One listener; never dropped.
	Reboots() <-chan string
	// AwaitChange returns the ID of a sandbox whose vmlet-agent has, or may have, begun to answer or
	// ceased to since this was last returned of it; what has happened before is not lost. Agent tells
	// how it is then. The error is ctx's. One caller at a time.
	AwaitChange(ctx context.Context) (id string, err error)
	// Agent tells, at once, whether the sandbox's vmlet-agent answers now, and the boot ID of its guest,
	// "" if it does not.
	Agent(id string) (bootID string, answers bool)

	// Setup makes the guest as the pod wants it. Idempotent.
	Setup(ctx context.Context, id string, s vm.GuestSetup) error
	// SetNICs has the guest give these NICs, which it knows by their MACs, their names, addresses and routes, and forget
	// what it knew of others that SetNICs was called for. It waits for a device that is not there yet. Others are left
	// alone, the first one above all. Idempotent.
	SetNICs(ctx context.Context, id string, nics []vm.NIC) error
	// Readdress has a guest give its first interface, which it knows with the MAC and addresses of one NIC, those of
	// another. Idempotent.
	Readdress(ctx context.Context, id string, was, now vm.NIC) error
	// Exec runs a process to its end with its streams connected, and returns its exit code.
	// When ctx ends first, the process is killed with its session, and the error is ctx's.
	Exec(ctx context.Context, id string, p vm.Process, s vm.Streams) (exitCode int32, err error)

	// StartMain starts the container's command, once: idempotent for the same command ID.
	StartMain(ctx context.Context, id string, m vm.Main) error
	// WaitMain returns when the command has ended, at once if it has already. It outlasts
	// sessions: it returns for ctx's end, for NotFound (the guest has booted since, and the
	// command was not started in this boot), or with the exit.
	WaitMain(ctx context.Context, id, mainID string) (vm.MainExit, error)
	// AckMain lets the agent forget the exit, which is on record now, and power the guest off.
	AckMain(ctx context.Context, id, mainID string) error
	// SignalMain sends the command a signal, such as "SIGTERM". NotFound if it does not run.
	SignalMain(ctx context.Context, id, mainID, signal string) error
	// AttachMain gives the command input until stdin ends, ctx does, or the command.
	AttachMain(ctx context.Context, id, mainID string, stdin io.Reader, resize <-chan vm.TerminalSize) error

	// Dial connects to a TCP port of the guest's loopback, 127.0.0.1 and then ::1. The
	// connection has CloseWrite. Unavailable if nothing listens there.
	Dial(ctx context.Context, id string, port uint16) (net.Conn, error)
	// Shutdown asks the agent to power the guest off; Unavailable without an agent.
	Shutdown(ctx context.Context, id string) error
	// Reboot asks the agent to have the guest reboot in its own way; Unavailable without an agent.
	Reboot(ctx context.Context, id string) error

	// MountShares mounts the sandbox's share in the guest and binds what is in it where it
	// belongs. Idempotent. UnmountShares undoes it; FailedPrecondition with what is in use.
	MountShares(ctx context.Context, id, namespace string, mounts []vm.ShareMount) error
	UnmountShares(ctx context.Context, id string) error
	// KeepFiles copies the trees into the guest, returns, and keeps them in step both ways
	// until Disconnect: what changes on the host is in the guest within 2 s, what the guest
	// changes in a file that is not read-only is on the host.
	KeepFiles(ctx context.Context, id, namespace string, trees []vm.FileTree) error
	// ReadFiles returns the regular files of the trees as they are on the host now, for a guest
	// that nobody can keep them in step with. FailedPrecondition if a tree is not there.
	ReadFiles(trees []vm.FileTree) ([]vm.SeedFile, error)
	// FetchFiles brings what the guest has changed to the host now: before an exit is final.
	FetchFiles(ctx context.Context, id string) error
}

// Shares makes the host's side of what a guest sees of host folders: one tree of bind
// mounts per sandbox, which one virtiofs device exports.
type Shares interface {
	// Create makes the tree of these mounts, whole or not at all, and returns them with
	// their Source. Symbolic links are resolved once, here. Idempotent.
	Create(ctx context.Context, id string, mounts []vm.ShareMount) ([]vm.ShareMount, error)
	// Remove takes the tree down again. Idempotent.
	Remove(ctx context.Context, id string) error
	// List returns the IDs of all sandboxes that have a tree.
	List(ctx context.Context) ([]string, error)
}
