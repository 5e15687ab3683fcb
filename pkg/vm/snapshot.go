// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"fmt"
	"regexp"
	"time"

	"github.com/containerd/errdefs"
)

// Layer is the record of one immutable file under a disk. Layers form a tree: at its root is the image of a root disk, or nothing
// of a data disk, and at the ends are the disks that guests write to. A layer that no snapshot names is merged with the one above it, or removed.
type Layer struct {
	// ID is random, 32 lower-case hex digits.
	ID   string `json:"id"`
	Path string `json:"path"`
	// Parent is the ID of the layer below, "" for the image, or for none.
	Parent string `json:"parent,omitempty"`
	// The image at the root of the tree; "" under data disks.
	ImageID       string     `json:"imageID"`
	Backing       string     `json:"backing"`
	BackingFormat DiskFormat `json:"backingFormat"`
	// Size is the virtual size in bytes.
	Size int64 `json:"size"`
	// NVRAM is a copy of what UEFI kept when the layer was written to last, "" under a disk that is booted by BIOS. It goes with
	// the layer.
	NVRAM string `json:"nvram,omitempty"`
}

// SnapshotState is where a snapshot stands.
//
//	CreateSnapshot
//	     |
//	     v     failed, or cut short
//	 Creating ---------------------.
//	     |                         |
//	     v     DeleteSnapshot      v
//	   Ready -----------------> Deleting ------> (no record)
type SnapshotState string

// The states of a snapshot.
const (
	SnapshotCreating SnapshotState = "Creating"
	SnapshotReady    SnapshotState = "Ready"
	// SnapshotDeleting: it cannot be restored any more, and what it holds is being given back.
	SnapshotDeleting SnapshotState = "Deleting"
)

// Consistency says what a guest finds that is booted from a snapshot's disk.
type Consistency string

// Consistencies.
const (
	// ConsistencyCrash: what a machine finds whose plug was pulled.
	ConsistencyCrash Consistency = "crash"
	// ConsistencyMemory: the memory is there too, with all that was not written yet.
	ConsistencyMemory Consistency = "memory"
	// ConsistencyFiles: the file systems were frozen in that moment, whole and with all that was written by then.
	ConsistencyFiles Consistency = "file-system"
	// ConsistencyOff: no guest ran.
	ConsistencyOff Consistency = "off"
)

// Snapshot is the record of a named point in time of a VM.
type Snapshot struct {
	// ID is random, 32 lower-case hex digits: a snapshot that is made anew under an old name shares nothing with it.
	ID          string        `json:"id"`
	Name        string        `json:"name"`
	Description string        `json:"description,omitempty"`
	State       SnapshotState `json:"state"`
	CreatedAt   time.Time     `json:"createdAt"`
	// Parent is the ID of the snapshot that the VM was at before, "" for none.
	Parent string `json:"parent,omitempty"`
	// ContainerID is the container that ran, or was to; "" for none. Attempt is its attempt.
	ContainerID string `json:"containerID,omitempty"`
	// Machine is what the VM was doing.
	Machine     DomainState `json:"machine"`
	Consistency Consistency `json:"consistency,omitempty"`
	// Paused is how long the guest stood still for it.
	Paused time.Duration `json:"paused,omitempty"`
	// Memory is nil for a snapshot of disks alone.
	Memory *SnapshotMemory `json:"memory,omitempty"`
	// MemoryGone is set once the memory was given back with the sandbox: what is left is that of a snapshot of the disk.
	MemoryGone bool         `json:"memoryGone,omitempty"`
	Disk       SnapshotDisk `json:"disk"`
	// DataDisks are the data disks that are in it beside the root disk. LeftOut names those that the guest could write to and that are not.
	DataDisks []SnapshotPart `json:"dataDisks,omitempty"`
	LeftOut   []string       `json:"leftOut,omitempty"`
	// Checkpoint is set for one that a checkpoint is made of, and nobody asked for by name: where that is written.
	Checkpoint *CheckpointFolder `json:"checkpoint,omitempty"`
}

// SnapshotMemory is the file with a guest's memory and the state of its devices.
type SnapshotMemory struct {
	// Size is bytes on the host. 0 while it is being written.
	Size int64 `json:"size"`
	// Machine is the size of the machine that it is of.
	Machine MachineSize `json:"machine"`
	// DataDisks are the data disks that the machine had and that are not part of the snapshot: the guest can only read them.
	DataDisks []SnapshotDataDisk `json:"dataDisks,omitempty"`
}

// SnapshotDataDisk is a data disk that a machine had when its memory was taken.
type SnapshotDataDisk struct {
	Name   string `json:"name"`
	Path   string `json:"path"`
	Serial string `json:"serial"`
	Target string `json:"target"`
}

// SnapshotDisk is the root disk of a snapshot.
type SnapshotDisk struct {
	// Container is the name of the containers that boot from it, ImageID their image.
	Container string `json:"container"`
	ImageID   string `json:"imageID"`
	// Layer is the ID of the layer that holds its content.
	Layer string `json:"layer"`
	// Next is the file that the guest writes to instead, while the snapshot is Creating.
	Next string `json:"next,omitempty"`
	// NVRAM is the file that a copy of what UEFI keeps goes to, while the snapshot is Creating; "" with BIOS.
	NVRAM string `json:"nvram,omitempty"`
	// Size is the virtual size in bytes.
	Size int64 `json:"size"`
}

// SnapshotPart is a data disk of a snapshot.
type SnapshotPart struct {
	// DiskID is the disk's; Name, Serial and Target are what it was attached as.
	DiskID string `json:"diskID"`
	Name   string `json:"name"`
	Serial string `json:"serial"`
	Target string `json:"target"`
	// Layer, Next and Size are as in SnapshotDisk.
	Layer string `json:"layer"`
	Next  string `json:"next,omitempty"`
	Size  int64  `json:"size"`
}

// SnapshotRequest is what the caller of CreateSnapshot asks for.
type SnapshotRequest struct {
	Name, Description string
	// Memory asks for the guest's memory beside its disk.
	Memory bool
	// Quiesce asks for file systems that are frozen in the moment of the snapshot.
	Quiesce bool
	// Checkpoint is where a checkpoint is written that the snapshot is for, nil for any other.
	Checkpoint *CheckpointFolder
}

// SnapshotInfo is a snapshot as it is seen from outside.
type SnapshotInfo struct {
	Snapshot

	// SandboxID is "" for one of a persistent disk that no sandbox holds.
	SandboxID string
	// ParentName is the name of the parent, "" for none.
	ParentName string
	// Current: it is what the VM was at last, by taking or restoring it.
	Current bool
	// Used is the bytes that its own layers take on the host; what other snapshots have below them is not counted.
	Used uint64
}

// RestoreIntent records that a VM is to be put back to a snapshot, so that a restarted daemon goes on with it and the end
// of its QEMU is not the end of its container.
type RestoreIntent struct {
	// SnapshotID is the snapshot.
	SnapshotID string `json:"snapshotID"`
	// WasCurrent is the snapshot that the VM was at before.
	WasCurrent string `json:"wasCurrent,omitempty"`
	// Was is the disk before, which is put back if the snapshot's VM cannot be started; Next is the disk after.
	Was  Disk `json:"was"`
	Next Disk `json:"next"`
	// DataDisks are the data disks that are put back with it.
	DataDisks []RestoredPart `json:"dataDisks,omitempty"`
	// Memory: the guest goes on in the memory of the snapshot; else it boots.
	Memory bool `json:"memory,omitempty"`
	// Paused: the guest's CPUs stay halted.
	Paused bool `json:"paused,omitempty"`
}

// RestoredPart is a data disk of a restore, before and after it.
type RestoredPart struct {
	DiskID string   `json:"diskID"`
	Was    DataFile `json:"was"`
	Next   DataFile `json:"next"`
}

// RestoreRequest is what the caller of RestoreSnapshot asks for.
type RestoreRequest struct {
	Name string
	// Paused leaves the guest's CPUs halted until it is resumed.
	Paused bool
	// DiskOnly boots from the disk of a snapshot that has memory too.
	DiskOnly bool
}

// Snapshotting is what the hypervisor is to do to a running machine: from one moment on it writes to other files, and
// its memory of that moment goes to the file Memory, "" for none.
type Snapshotting struct {
	Disks  []Switch
	Memory string
}

// Switch has a machine write to Next, on top of Disk, which it writes to now.
type Switch struct {
	Disk, Next string
}

// DiskFiles are the files of a disk in a definition: Path, and those below it, nearest first.
type DiskFiles struct {
	// Target is libvirt's name for the disk, "" for the one to boot from.
	Target  string
	Path    string
	Backing []BackingFile
	// NVRAM is what UEFI keeps for the one to boot from, "" with BIOS.
	NVRAM string
}

// Awoken is a machine that goes on in the memory of a snapshot, its CPUs still halted.
type Awoken struct {
	// NICs are those on record that it has, Down as its guest has them. Surplus: it has others, which were detached since.
	NICs    []NIC
	Surplus bool
}

// snapshotName is what a snapshot may be called.
var snapshotName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// CheckSnapshotName is InvalidArgument for what no snapshot can be called.
func CheckSnapshotName(name string) error {
	if snapshotName.MatchString(name) {
		return nil
	}
	return fmt.Errorf("%q cannot name a snapshot: a name has 1 to 64 letters, digits, dots, dashes and underscores: %w", name, errdefs.ErrInvalidArgument)
}
