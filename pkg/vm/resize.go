// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"fmt"
	"time"

	"github.com/containerd/errdefs"
)

// MemoryBlock is what memory is plugged and unplugged in, in bytes: the smallest piece of virtio-mem on x86-64.
const MemoryBlock = 2 * MiB

// MachineSize is what a VM has of CPUs and memory. It is the zero value where it is not known:
// of a container that a vmlet before schema version 3 made.
type MachineSize struct {
	VCPUs int `json:"vcpus"`
	// Memory is bytes of guest RAM.
	Memory int64 `json:"memory"`
	// MaxVCPUs is how many CPUs it can be given while it runs, 0 for no more than it was made with.
	MaxVCPUs int `json:"maxVCPUs,omitempty"`
	// MaxMemory is how much memory it can be given while it runs; 0 for a machine without a device for that.
	MaxMemory int64 `json:"maxMemory,omitempty"`
	// BootMemory is the part of Memory that it boots with and cannot give back, where MaxMemory is set. The rest is
	// plugged, and a multiple of MemoryBlock.
	BootMemory int64 `json:"bootMemory,omitempty"`
}

// Boot is the memory that the machine boots with.
func (s MachineSize) Boot() int64 {
	if s.MaxMemory == 0 {
		return s.Memory
	}
	return s.BootMemory
}

// Plugged is the memory that it has beyond that.
func (s MachineSize) Plugged() int64 { return s.Memory - s.Boot() }

// SizeAsk is what the owner of a VM asked for by Resize, 0 and "" for what is left as it is. It counts before annotations
// and limits.
type SizeAsk struct {
	VCPUs int `json:"vcpus,omitempty"`
	// Memory is bytes of guest RAM.
	Memory int64 `json:"memory,omitempty"`
	// CpusetCPUs are the CPUs of the host that QEMU may run on, as the kernel writes them: "0-2,7". CpusetMems are its
	// memory nodes.
	CpusetCPUs string `json:"cpusetCPUs,omitempty"`
	CpusetMems string `json:"cpusetMems,omitempty"`
	// CPUShares is a relative weight.
	CPUShares int64 `json:"cpuShares,omitempty"`
}

// Merge returns what is asked for after a change.
func (a SizeAsk) Merge(change SizeAsk) SizeAsk {
	if change.VCPUs != 0 {
		a.VCPUs = change.VCPUs
	}
	if change.Memory != 0 {
		a.Memory = change.Memory
	}
	if change.CPUShares != 0 {
		a.CPUShares = change.CPUShares
	}
	if change.CpusetCPUs != "" {
		a.CpusetCPUs = change.CpusetCPUs
	}
	if change.CpusetMems != "" {
		a.CpusetMems = change.CpusetMems
	}
	return a
}

// Bounds of what can be asked for. The shares are those of cgroup v1, which CRI counts in.
const (
	minShares, maxShares = 2, 262144
	maxAskedMemory       = 1 << 46
)

// Check says what is wrong with it: InvalidArgument. maxVCPUs is how many CPUs any guest can have.
func (a SizeAsk) Check(maxVCPUs int) error {
	switch {
	case a == SizeAsk{}:
		return fmt.Errorf("nothing is asked for: say cpus, memory, cpuset CPUs or nodes, or shares: %w", errdefs.ErrInvalidArgument)
	case a.VCPUs < 0 || a.VCPUs > maxVCPUs:
		return fmt.Errorf("%d CPUs: a guest has 1 to %d: %w", a.VCPUs, maxVCPUs, errdefs.ErrInvalidArgument)
	case a.Memory < 0 || a.Memory > maxAskedMemory:
		return fmt.Errorf("%d bytes of memory: it must be from 1 to %d: %w", a.Memory, int64(maxAskedMemory), errdefs.ErrInvalidArgument)
	case a.CPUShares < 0 || a.CPUShares == 1 || a.CPUShares > maxShares:
		return fmt.Errorf("%d CPU shares: they are from %d to %d: %w", a.CPUShares, minShares, maxShares, errdefs.ErrInvalidArgument)
	}
	return nil
}

// ResizeRequest is what the caller of Resize asks for.
type ResizeRequest struct {
	SizeAsk

	// Wait is how long the guest is waited for to take or to give back memory; 0 for the default.
	Wait time.Duration
}

// ResizeOutcome says what became of one part of a resize.
type ResizeOutcome string

// What became of it. One that was not asked for has "".
const (
	ResizeApplied ResizeOutcome = "applied"
	// ResizePartly: as far as After says.
	ResizePartly ResizeOutcome = "partly"
	// ResizeNextMachine: no VM runs, and the next one of the sandbox has it.
	ResizeNextMachine ResizeOutcome = "next-machine"
)

// ResizedNumber is what became of CPUs, memory or shares.
type ResizedNumber struct {
	Before, After, Requested int64
	Outcome                  ResizeOutcome
	// Detail says why not all of it, or how.
	Detail string
}

// ResizedSet is what became of a set of CPUs or memory nodes.
type ResizedSet struct {
	Before, After, Requested string
	Outcome                  ResizeOutcome
	Detail                   string
}

// Resized says what a VM has after a resize.
type Resized struct {
	// CPUs are those that it can use: fewer than GuestCPUs where it has not the time of all of them.
	CPUs ResizedNumber
	// GuestCPUs are those that the guest sees once it has them online.
	GuestCPUs int
	// Memory is in bytes.
	Memory                 ResizedNumber
	CPUShares              ResizedNumber
	CpusetCPUs, CpusetMems ResizedSet
}

// ResizeTerms are the records that a size and its limits follow from.
type ResizeTerms struct {
	// Limits took the place of the container's, PodLimits and Overhead that of the sandbox's; nil if none did.
	Limits    *Resources `json:"limits,omitempty"`
	PodLimits *Resources `json:"podLimits,omitempty"`
	Overhead  *Resources `json:"overhead,omitempty"`
	Asked     SizeAsk    `json:"asked,omitzero"`
}

// ResizeIntent records that a machine is being given another size, so that a restarted daemon sees it through.
type ResizeIntent struct {
	// ID is random: it tells one resize from the next.
	ID       string      `json:"id"`
	From     MachineSize `json:"from"`
	To       MachineSize `json:"to"`
	Was      ResizeTerms `json:"was"`
	Next     ResizeTerms `json:"next"`
	Begun    time.Time   `json:"begun"`
	Deadline time.Time   `json:"deadline"`
	// Whole: what cannot be done in full is undone.
	Whole bool `json:"whole,omitempty"`
	// GivenUp: it is being undone.
	GivenUp bool `json:"givenUp,omitempty"`
}

// LiveSize is what a machine that runs has.
type LiveSize struct {
	VCPUs int
	// Plugged is the memory beyond that of its boot that the guest has, Requested what it was told to have, in bytes.
	Plugged, Requested int64
}
