// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"time"

	"github.com/vmlet/vmlet/pkg/vm"
)

// The use cases that the handlers call, by noun. All are safe for concurrent use and
// return errors that carry errdefs classes. An ID may be a unique prefix of one
// everywhere, since that is what people type; a prefix of several is InvalidArgument.

// Sandboxes are the use cases of pod sandboxes.
type Sandboxes interface {
	// RunSandbox returns when the sandbox is ready. A retry of the same attempt waits
	// for the first call and returns its result.
	RunSandbox(ctx context.Context, spec vm.SandboxSpec) (id string, err error)
	// StopSandbox is idempotent; an unknown ID is a success.
	StopSandbox(ctx context.Context, id string) error
	// RemoveSandbox stops what runs first. Idempotent; an unknown ID is a success.
	RemoveSandbox(ctx context.Context, id string) error
	// UpdateSandboxResources changes the pod's limits and overhead; nil, and what they leave
	// open, stays. FailedPrecondition for what the VM cannot be given; all is as it was then.
	UpdateSandboxResources(ctx context.Context, id string, limits, overhead *vm.Resources) error
	// Sandbox answers from memory; NotFound for an unknown ID.
	Sandbox(id string) (vm.Sandbox, error)
	// Sandboxes answers from memory, oldest first. The slice is the caller's, what it
	// points to is shared and never changes: a change makes another sandbox, at another
	// address. Never write into them.
	Sandboxes() []*vm.Sandbox
	// SandboxDisks answers from memory: the root disks of the sandbox's containers.
	SandboxDisks(sb vm.Sandbox) []vm.Disk
}

// Containers are the use cases of containers.
type Containers interface {
	// CreateContainer resolves spec.ImageRef itself. A retry of the same attempt waits
	// for the first call and returns its result.
	CreateContainer(ctx context.Context, sandboxID string, spec vm.ContainerSpec) (id string, err error)
	StartContainer(ctx context.Context, id string) error
	// StopContainer returns when the VM is gone; a grace of 0 destroys it at once.
	// Idempotent; an unknown ID is a success.
	StopContainer(ctx context.Context, id string, grace time.Duration) error
	// RemoveContainer stops what runs first. Idempotent; an unknown ID is a success.
	RemoveContainer(ctx context.Context, id string) error
	// UpdateContainerResources changes limits, as UpdateSandboxResources does.
	UpdateContainerResources(ctx context.Context, id string, change vm.Resources) error
	// Container answers from memory; NotFound for an unknown ID.
	Container(id string) (vm.Container, error)
	// Containers answers from memory, oldest first, under the terms of Sandboxes.
	Containers() []*vm.Container
	// Exec waits for the guest's agent and for the command's end. When ctx ends first
	// the command is killed in the guest and the error is ctx's.
	Exec(ctx context.Context, id string, req vm.ExecRequest) (vm.ExecResult, error)
	// ReopenLog opens the container's log anew by its path. Once it returned an error
	// no new file is made.
	ReopenLog(ctx context.Context, id string) error
}

// Checkpoints are the use cases of VMs that are written into folders, and come back from them. Both end with ctx, and leave
// nothing after an error.
type Checkpoints interface {
	// Checkpoint is AlreadyExists where dir is not empty, FailedPrecondition for one that is not allowed, or a VM that has
	// what is not written.
	Checkpoint(ctx context.Context, sandboxID, dir string) (vm.Checkpoint, error)
	// RestorePod is AlreadyExists while a VM of the same identity lives.
	RestorePod(ctx context.Context, req vm.PodRestore) (vm.RestoredPod, error)
}

// Events are what happens to containers and sandboxes.
type Events interface {
	// SubscribeEvents tells of every container and sandbox that was created, started,
	// stopped or deleted, once that is on record, until ctx ends. The channel is closed
	// then, and when its reader has fallen so far behind that an event is lost.
	SubscribeEvents(ctx context.Context) <-chan vm.ContainerEvent
}

// Stats are the last samples, answered from memory.
type Stats interface {
	// Stats is NotFound for a container without a sample. id is a whole ID.
	Stats(id string) (vm.Stats, error)
	// AllStats has one entry per running container that was sampled.
	AllStats() []vm.Stats
}

// Images are the use cases of VM images. A reference is an ID or a name.
type Images interface {
	PullImage(ctx context.Context, ref string, auth vm.RegistryAuth, progress func(vm.PullProgress)) (vm.Image, error)
	// Image is NotFound for an image that is not in the store.
	Image(ctx context.Context, ref string) (vm.Image, error)
	Images(ctx context.Context) ([]vm.Image, error)
	// RemoveImage removes the image with all its names. Idempotent; FailedPrecondition
	// while it is in use.
	RemoveImage(ctx context.Context, ref string) error
	ImageUsage(ctx context.Context) (vm.FSUsage, error)
}

// Node tells whether pods could run now: nil, or why not. Both answer within a second.
type Node interface {
	// Capabilities answers from memory: what can be done to VMs on this host, for a ref of "".
	Capabilities(ref string) ([]vm.Capability, error)
	RuntimeReady(ctx context.Context) error
	NetworkReady(ctx context.Context) error
}

// UseCases is all that the handlers need.
type UseCases interface {
	Sandboxes
	Containers
	Checkpoints
	Events
	Stats
	Images
	Node
}
