// SPDX-License-Identifier: Apache-2.0

package vm

import "time"

// Seed is what cloud-init is told, before it is written in cloud-init's formats.
type Seed struct {
	// InstanceID changes when cloud-init must treat the machine as new.
	InstanceID string
	Hostname   string
	SSHKeys    []string
	NICs       []NIC
	DNS        DNSConfig
	// UserData is passed on byte for byte. Secret.
	UserData []byte
	// Agent is vmlet-agent's binary, for a guest that has cloud-init install it; else empty.
	Agent []byte
	// Files, Shares and Sysctls are what vmlet-agent would see to, for a guest without:
	// cloud-init does it at each boot, as things were when the machine was made. Secret.
	Files   []SeedFile
	Shares  []ShareMount
	Sysctls map[string]string
}

// SeedFile is a small file that cloud-init puts into the guest.
type SeedFile struct {
	// Path is absolute, in the guest.
	Path string
	// Mode is its permissions.
	Mode     uint32
	UID, GID uint32
	Content  []byte
	ReadOnly bool
}

// Overrides are what a pod's annotations ask for in place of the node's defaults.
// Zero values ask for nothing.
type Overrides struct {
	VCPUs  int
	Memory int64 // bytes
	// DefaultVCPUs counts where there is no CPU limit.
	DefaultVCPUs int
	// MaxVCPUs and MaxMemory are what the VM can be given while it runs; MaxMemory is bytes.
	MaxVCPUs  int
	MaxMemory int64
	RootSize  int64 // bytes
	// RootDisk says how long the root disk lives, "" for RootDiskSandbox.
	RootDisk RootDiskPolicy
	// RootDiskClaim names a persistent disk that pods share in turn, "" for one of the pod's own.
	RootDiskClaim string
	DiskBus       string
	// Firmware is what the VM boots by, "" for FirmwareBIOS.
	Firmware Firmware
	UserData []byte // secret
	SSHKeys  []string
	// GuestAgent says how the guest comes by its agent, "" for GuestAgentImage.
	GuestAgent GuestAgent
	// AgentTimeout is how long a command waits for its guest's agent.
	AgentTimeout time.Duration
	// PowerOff is what becomes of a container whose VM is powered off; "" for PowerOffHeld.
	PowerOff PowerOffPolicy
}

// GuestAgent says how a guest comes by its agent.
type GuestAgent string

// Ways to an agent.
const (
	// GuestAgentImage: vmlet-agent is in the image.
	GuestAgentImage GuestAgent = "vmlet"
	// GuestAgentSeed: cloud-init installs vmlet-agent from the seed.
	GuestAgentSeed GuestAgent = "seed"
	// GuestAgentQGA: the image has qemu-guest-agent only.
	GuestAgentQGA GuestAgent = "qga"
)

// ExecRequest is a command to run in the guest.
type ExecRequest struct {
	Command []string
	Env     []EnvVar
	// MaxOutput bounds stdout and stderr, each, in bytes; more is cut off.
	MaxOutput int
}

// ExecResult is how a command in the guest ended.
type ExecResult struct {
	ExitCode int32
	Stdout   []byte
	Stderr   []byte
}
