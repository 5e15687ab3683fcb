// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"net/netip"
	"time"
)

// GuestInfo is what the agent says about its guest. None of it is to be trusted.
type GuestInfo struct {
	// Agent is which agent says it, AgentVersion what it calls its version.
	Agent        GuestAgentKind
	AgentVersion string

	BootID   string
	Hostname string
	// Kernel is the release of the kernel, OS the system's name for people; OSID, OSVersion and Machine are ID and
	// VERSION_ID of os-release and the architecture of uname.
	Kernel, OS, OSID, OSVersion, Machine string

	Clock  time.Time
	Uptime time.Duration

	Logins      []GuestLogin
	Filesystems []GuestFilesystem
	Interfaces  []GuestInterface
	// Unknown is what the agent cannot tell.
	Unknown []GuestFact
}

// GuestAgentKind tells the agents apart.
type GuestAgentKind string

// The agents.
const (
	// AgentVMlet is vmlet-agent.
	AgentVMlet GuestAgentKind = "vmlet-agent"
	// AgentQEMU is qemu-guest-agent.
	AgentQEMU GuestAgentKind = "qemu-guest-agent"
)

// GuestFact is a part of GuestInfo that an agent may not be able to tell.
type GuestFact string

// The facts.
const (
	FactAgentVersion GuestFact = "agent version"
	FactOS           GuestFact = "os"
	FactHostname     GuestFact = "hostname"
	FactBootID       GuestFact = "boot ID"
	FactUptime       GuestFact = "uptime"
	FactClock        GuestFact = "clock"
	FactLogins       GuestFact = "logins"
	FactFilesystems  GuestFact = "file systems"
	FactInterfaces   GuestFact = "interfaces"
)

// GuestLogin is a user who is logged in. Terminal and Host are "" where they are not told.
type GuestLogin struct {
	User, Terminal, Host string
	At                   time.Time
}

// GuestFilesystem is a file system on a block device of the guest.
type GuestFilesystem struct {
	Device, MountPoint, Type string
	// Total and Used are in bytes.
	Total, Used int64
}

// GuestInterface is a network interface in the guest.
type GuestInterface struct {
	Name, MAC string
	Addresses []netip.Prefix
}

// GuestFile is a regular file in a guest.
type GuestFile struct {
	// Size is in bytes.
	Size int64
	// Mode is the 12 permission bits.
	Mode     uint32
	UID, GID uint32
	Modified time.Time
}

// ReadGuestFile says which part of a file to read.
type ReadGuestFile struct {
	Path string
	// Offset is in bytes, and so is Limit; 0 for all.
	Offset, Limit int64
}

// MostSizeless is the most, in bytes, that is read of a file that has no size and yet content, as those in /proc.
const MostSizeless = 16 * MiB

// Span is how many bytes of a file may come at most.
func (r ReadGuestFile) Span(f GuestFile) int64 {
	most := max(0, f.Size-r.Offset)
	if f.Size == 0 {
		most = MostSizeless
	}
	if r.Limit > 0 {
		most = min(most, r.Limit)
	}
	return most
}

// WriteGuestFile says which file to write.
type WriteGuestFile struct {
	Path string
	// Mode is the 12 permission bits.
	Mode     uint32
	UID, GID uint32
	// Overwrite lets it take the place of a regular file.
	Overwrite bool
	// Parents makes the folders that are missing.
	Parents bool
}

// KeysMode is what becomes of the keys that a user has.
type KeysMode string

// The modes.
const (
	KeysReplace KeysMode = "replace"
	KeysAdd     KeysMode = "add"
	KeysRemove  KeysMode = "remove"
)

// KeysChange changes a user's authorized keys.
type KeysChange struct {
	User string
	// Keys are lines as sshd(8) describes them.
	Keys []string
	Mode KeysMode
}

// GuestPassword is a user's new password. It is secret.
type GuestPassword struct {
	User     string
	Password string
	// Crypted says that Password is a hash of crypt(3)'s.
	Crypted bool
}

// String keeps the password out of whatever is printed.
func (p GuestPassword) String() string { return "password of " + p.User }

// GoString is String.
func (p GuestPassword) GoString() string { return p.String() }
