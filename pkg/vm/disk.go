// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"strings"
	"time"
)

// RootDiskPolicy says how long a container's root disk lives.
type RootDiskPolicy string

// Policies of root disks.
const (
	// RootDiskFresh: as long as its container. Each boot begins with the image.
	RootDiskFresh RootDiskPolicy = "fresh"
	// RootDiskSandbox: as long as the sandbox. The boots of one container name share it.
	RootDiskSandbox RootDiskPolicy = "sandbox"
	// RootDiskPersistent: until it is removed by its name. It outlives sandboxes and the
	// host's uptime.
	RootDiskPersistent RootDiskPolicy = "persistent"
)

// Disk is the record of a root disk: an overlay on an image.
type Disk struct {
	// Container is the name (not the ID) of the container whose boots use the disk: a
	// restart finds it again, and an init container has its own.
	Container string `json:"container"`
	// ContainerID is set for a disk of one container alone, which goes with it.
	ContainerID string `json:"containerID,omitempty"`
	ImageID     string `json:"imageID"`
	Path        string `json:"path"`
	// Layer is the ID of the layer right below, "" for the image.
	Layer string `json:"layer,omitempty"`
	// Backing is the image's file; BackingFormat its format.
	Backing       string     `json:"backing"`
	BackingFormat DiskFormat `json:"backingFormat"`
	// Size is the virtual size in bytes.
	Size int64 `json:"size"`
	// NVRAM is the file with what UEFI keeps for the guests that boot from the disk, "" for a disk that is booted by BIOS. libvirt
	// makes it with the first boot, and QEMU has it open: other than Path it stays the same when a snapshot is taken.
	NVRAM string `json:"nvram,omitempty"`
	// Growing is set from before the file is given that size until it has it.
	Growing bool `json:"growing,omitempty"`
}

// DiskKey says which containers a persistent disk is for: those named Container in the pod
// PodUID, or in whichever pod of Namespace names the claim.
type DiskKey struct {
	Namespace string `json:"namespace"`
	// Tenant is who has the namespace, "" where there are none.
	Tenant string `json:"tenant,omitempty"`
	PodUID string `json:"podUID,omitempty"`
	// Claim takes the place of PodUID.
	Claim     string `json:"claim,omitempty"`
	Container string `json:"container"`
}

// Name is what people and records call the disk by: "claim/NAMESPACE/CLAIM/CONTAINER" or
// "pod/NAMESPACE/UID/CONTAINER", with "TENANT/" before the namespace where there is one. None of the parts can hold a slash.
func (k DiskKey) Name() string {
	place := k.Namespace
	if k.Tenant != "" {
		place = k.Tenant + "/" + k.Namespace
	}
	if k.Claim != "" {
		return strings.Join([]string{"claim", place, k.Claim, k.Container}, "/")
	}
	return strings.Join([]string{"pod", place, k.PodUID, k.Container}, "/")
}

// PersistentDisk is the record of a root disk that belongs to no sandbox. It is kept until
// somebody asks for its removal.
type PersistentDisk struct {
	// ID is random, 32 lower-case hex digits, and names the folder: a disk that is made
	// anew under an old name shares nothing with the old one.
	ID        string    `json:"id"`
	Key       DiskKey   `json:"key"`
	CreatedAt time.Time `json:"createdAt"`
	// Disk changes in its size, and where snapshots are taken and restored in its file and the layer below.
	Disk   Disk                 `json:"disk"`
	Status PersistentDiskStatus `json:"status"`
}

// PersistentDiskStatus is the part of a PersistentDisk that changes.
type PersistentDiskStatus struct {
	// Made is set once the file is there. From then on it is never made again: a disk that
	// is lost must not come back empty.
	Made bool `json:"made,omitempty"`
	// Holder is the ID of the sandbox that took the disk last. It counts for as long as that
	// sandbox has a record and is not stopped; nobody has to take it back.
	Holder string `json:"holder,omitempty"`
	// Removing is set before the files go. There is no way back.
	Removing bool `json:"removing,omitempty"`
	// Layered has the disk's snapshots, which are its own. All its files are in its folder, but memory, which is in that of the
	// holder.
	Layered
}

// Tree is the disk with what is under it.
func (d PersistentDisk) Tree() DiskTree {
	return DiskTree{Disks: []Disk{d.Disk}, Layered: d.Status.Layered}
}

// WithTree is the disk after a change of its tree.
func (d PersistentDisk) WithTree(t DiskTree) PersistentDisk {
	d.Disk, d.Status.Layered = t.Disks[0], t.Layered
	return d
}

// HeldDisk is a persistent disk as it is seen from outside.
type HeldDisk struct {
	PersistentDisk

	// Holder is the sandbox that uses it now, nil for none.
	Holder *Sandbox
	// Used is the bytes that it takes on the host, with its snapshots but without their memory.
	Used uint64
	// Snapshots are those that were taken of it, oldest first.
	Snapshots []SnapshotInfo
	// Layers are all files of it and its snapshots, the one that guests write to first, the image last.
	Layers []DiskLayer
}
