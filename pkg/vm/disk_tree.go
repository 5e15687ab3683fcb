// SPDX-License-Identifier: Apache-2.0

package vm

// DiskTree is disks with what is under them. Files, layers and snapshots of one tree refer to each other and to
// nothing of another one; at the root of it are images, or nothing.
type DiskTree struct {
	// Disks are root disks.
	Disks []Disk `json:"disks,omitempty"`
	// DataDisks are those that were attached by name, in the tree of a sandbox alone.
	DataDisks []DataDisk `json:"dataDisks,omitempty"`
	Layered
}

// Layered is a DiskTree but for its disks.
type Layered struct {
	// Layers are the immutable files under the disks, Snapshots what the layers are kept for, oldest first.
	Layers    []Layer    `json:"layers,omitempty"`
	Snapshots []Snapshot `json:"snapshots,omitempty"`
	// Current is the ID of the snapshot that was taken or restored last, "" for none.
	Current string `json:"current,omitempty"`
	// Stale is set while a domain may be defined with other files than are under its disk now.
	Stale bool `json:"stale,omitempty"`
}
