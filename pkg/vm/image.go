// SPDX-License-Identifier: Apache-2.0

package vm

import "time"

// DiskFormat is the format of a disk image file.
type DiskFormat string

// Disk formats that images and disks may have.
const (
	FormatQCOW2 DiskFormat = "qcow2"
	FormatRaw   DiskFormat = "raw"
)

// Image is a VM disk image in the store: addressed by digest, immutable, maybe the
// backing file of many disks.
type Image struct {
	// ID is the sha256 of the disk file as it lies in the store, as "sha256:<hex>".
	// Two names, registries or manifests with the same disk are one image.
	ID string `json:"id"`
	// Tags are full names with a tag, Digests full names with a manifest's digest.
	Tags    []string `json:"tags,omitempty"`
	Digests []string `json:"digests,omitempty"`
	// Path is the file; read-only for everyone, root included as far as the file
	// system can enforce it.
	Path   string     `json:"path"`
	Format DiskFormat `json:"format"`
	// Size is the bytes the file takes; VirtualSize what the guest sees as its disk.
	Size        int64     `json:"size"`
	VirtualSize int64     `json:"virtualSize"`
	PulledAt    time.Time `json:"pulledAt"`
	// Pinned images are kept though no pod uses them: a persistent disk is based on them.
	Pinned bool `json:"pinned,omitempty"`
}

// RegistryAuth are a registry's credentials (CRI AuthConfig). Secret: it never
// reaches a log, an error or the disk.
type RegistryAuth struct {
	Username      string
	Password      string
	Auth          string
	ServerAddress string
	IdentityToken string
	RegistryToken string
}

// The phases of a pull or an import, in their order.
const (
	PullResolving   = "resolving"
	PullDownloading = "downloading"
	PullVerifying   = "verifying"
	PullDone        = "done"
)

// PullProgress tells how far a pull is. Total is 0 while it is not known.
type PullProgress struct {
	Phase string // one of PullResolving and the others
	Done  int64  // bytes
	Total int64  // bytes
}

// FSUsage is how much a folder of ours holds.
type FSUsage struct {
	At         time.Time
	MountPoint string
	UsedBytes  uint64
	UsedInodes uint64
}
