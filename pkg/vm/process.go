// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"io"
	"time"
)

// Process is a command to run in the guest, and as whom. Secret: it holds environment.
type Process struct {
	// Args: Args[0] is looked up in PATH if it has no slash.
	Args []string `json:"args"`
	Env  []EnvVar `json:"env,omitempty"`
	// WorkingDir is "" for the user's home on a machine, "/" where a security context holds.
	WorkingDir string `json:"workingDir,omitempty"`
	TTY        bool   `json:"tty,omitempty"`
	// Security is nil for root with everything, as on any machine.
	Security *Security `json:"security,omitempty"`
	// Namespace names the guest's mount namespace that the processes of one container
	// share, "" for the guest's own.
	Namespace string `json:"namespace,omitempty"`
}

// Security is what a process in the guest may do (CRI LinuxContainerSecurityContext),
// resolved: nothing in it needs a look at the host any more.
type Security struct {
	// User is a number or a name of the guest's, "" for root.
	User string `json:"user,omitempty"`
	// Group is a number, "" for the user's primary group.
	Group              string   `json:"group,omitempty"`
	SupplementalGroups []uint32 `json:"supplementalGroups,omitempty"`
	// StrictGroups leaves out the groups that the guest's own files give the user.
	StrictGroups bool `json:"strictGroups,omitempty"`
	// Capabilities is nil for all of them, else exactly these ("CAP_NET_ADMIN").
	Capabilities []string `json:"capabilities"`
	Ambient      []string `json:"ambient,omitempty"`
	// NoNewPrivileges as in prctl(2).
	NoNewPrivileges bool `json:"noNewPrivileges,omitempty"`
	// Seccomp is a classic BPF program, as seccomp(2) takes it; empty for none.
	Seccomp       []byte   `json:"seccomp,omitempty"`
	ReadonlyRoot  bool     `json:"readonlyRoot,omitempty"`
	MaskedPaths   []string `json:"maskedPaths,omitempty"`
	ReadonlyPaths []string `json:"readonlyPaths,omitempty"`
}

// Main is the container's command as the guest's main process.
type Main struct {
	// ID is the container's.
	ID      string
	Process Process
	// Stdin keeps the command's input open for attached clients; StdinOnce ends it with
	// the first of them.
	Stdin     bool
	StdinOnce bool
	// TerminationLog is a file in the guest whose content comes with the exit, "" for none.
	TerminationLog string
}

// MainExit is how the container's command ended.
type MainExit struct {
	Code int32 `json:"code"`
	// Signal is its number, 0 if none ended it.
	Signal int32 `json:"signal,omitempty"`
	// OOMKilled: the guest's kernel killed it for memory.
	OOMKilled bool `json:"oomKilled,omitempty"`
	// StartError is why it could not even be started, "" if it was.
	StartError string    `json:"startError,omitempty"`
	At         time.Time `json:"at"`
	// TerminationLog is what the command left in its termination log. It is not recorded.
	TerminationLog []byte `json:"-"`
}

// TerminalSize is in characters.
type TerminalSize struct {
	Width  uint16
	Height uint16
}

// Streams are what a process in the guest is connected to. Stdin may be nil, so may Stdout
// and Stderr; with a TTY there is no Stderr.
type Streams struct {
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	// Resize brings new sizes of the terminal; nil for none.
	Resize <-chan TerminalSize
}

// GuestSetup is what the guest is told before its command starts, and again after a reboot.
type GuestSetup struct {
	Hostname string
	Sysctls  map[string]string
	// ResolvConf is the whole of /etc/resolv.conf, nil to leave the guest's alone.
	ResolvConf []byte
}

// ContainerEvent is a change that clients are told of (CRI ContainerEventResponse).
type ContainerEvent struct {
	// ContainerID is the container's, or the sandbox's for an event of the sandbox itself.
	ContainerID string
	SandboxID   string
	Kind        ContainerEventKind
	At          time.Time
}

// ContainerEventKind says what happened (CRI ContainerEventType).
type ContainerEventKind string

// Kinds of container events.
const (
	ContainerCreatedEvent ContainerEventKind = "created"
	ContainerStartedEvent ContainerEventKind = "started"
	ContainerStoppedEvent ContainerEventKind = "stopped"
	ContainerDeletedEvent ContainerEventKind = "deleted"
)
