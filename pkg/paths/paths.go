// SPDX-License-Identifier: Apache-2.0

// Package paths names every file and folder that vmlet keeps.
package paths

import (
	"path/filepath"
	"strings"
)

// Node is the pair of folders a vmlet lives in. Root survives a reboot of the host,
// State does not (it is on a tmpfs).
type Node struct {
	Root  string // default /var/lib/vmlet
	State string // default /run/vmlet
}

// DB is the bbolt file with all records.
func (n Node) DB() string { return filepath.Join(n.Root, "vmlet.db") }

// Lock is held (flock) by the daemon, so that a second one on the same root is refused.
func (n Node) Lock() string { return filepath.Join(n.Root, "vmlet.lock") }

// Images is the image store: see pkg/image for what is in it.
func (n Node) Images() string { return filepath.Join(n.Root, "images") }

// Sandboxes holds a folder per sandbox.
func (n Node) Sandboxes() string { return filepath.Join(n.Root, "sandboxes") }

// Sandbox is the folder of one sandbox: disks, seed and console spool.
func (n Node) Sandbox(id string) string { return filepath.Join(n.Sandboxes(), id) }

// RootDisk is the overlay that the boots of one container name share. The image is
// part of the name: a container whose image was changed in place gets a new disk, and
// the old one stays until the sandbox is removed.
func (n Node) RootDisk(id, container, imageID string) string {
	return filepath.Join(n.Sandbox(id), "root-"+container+"-"+short(imageID)+".qcow2")
}

// FreshDisk is the overlay of one container alone.
func (n Node) FreshDisk(id, containerID string) string {
	return filepath.Join(n.Sandbox(id), "root-"+containerID+".qcow2")
}

// LayeredDisk is an overlay on a layer: a root disk after its first snapshot.
func (n Node) LayeredDisk(id, layerID string) string {
	return filepath.Join(n.Sandbox(id), "root-layer-"+layerID+".qcow2")
}

// NVRAM is what UEFI keeps, beside the file of a root disk and by its name.
func NVRAM(disk string) string { return strings.TrimSuffix(disk, ".qcow2") + ".nvram" }

// SnapshotMemory is the memory of a guest at a snapshot. It holds all secrets that the guest had in it.
func (n Node) SnapshotMemory(id, snapshotID string) string {
	return filepath.Join(n.Sandbox(id), "memory-"+snapshotID+".save")
}

// CheckpointDisk is what a checkpoint takes of a root disk, until it is in the checkpoint's folder.
func (n Node) CheckpointDisk(id, checkpointID string) string {
	return filepath.Join(n.Sandbox(id), "checkpoint-"+checkpointID+".qcow2")
}

// DataDisk is the file of a data disk that was asked for by its size.
func (n Node) DataDisk(id, diskID string) string {
	return filepath.Join(n.Sandbox(id), "data-"+diskID+".qcow2")
}

// Disks holds a folder per persistent disk.
func (n Node) Disks() string { return filepath.Join(n.Root, "disks") }

// PersistentDisk is the overlay of the persistent disk with this ID, in its folder.
func (n Node) PersistentDisk(diskID string) string {
	return filepath.Join(n.Disks(), diskID, "root.qcow2")
}

// PersistentLayer is an overlay on a layer of a persistent disk: what that is after its first snapshot.
func (n Node) PersistentLayer(diskID, layerID string) string {
	return filepath.Join(n.Disks(), diskID, "root-layer-"+layerID+".qcow2")
}

// Seed is the NoCloud ISO of the sandbox's current container.
func (n Node) Seed(id string) string { return filepath.Join(n.Sandbox(id), "seed.iso") }

// ConsoleSpool is the file that QEMU appends one container's serial output to.
func (n Node) ConsoleSpool(id, containerID string) string {
	return filepath.Join(n.Sandbox(id), "console-"+containerID+".spool")
}

// ConsoleCheckpoint remembers how much of the spool is in the container's log.
func (n Node) ConsoleCheckpoint(id, containerID string) string {
	return filepath.Join(n.Sandbox(id), "console-"+containerID+".checkpoint")
}

// OutputSpool is the file that QEMU appends the output of one container's command to.
func (n Node) OutputSpool(id, containerID string) string {
	return filepath.Join(n.Sandbox(id), "output-"+containerID+".spool")
}

// OutputCheckpoint remembers how much of the output is in the container's log.
func (n Node) OutputCheckpoint(id, containerID string) string {
	return filepath.Join(n.Sandbox(id), "output-"+containerID+".checkpoint")
}

// AgentSocket is where QEMU listens for whoever speaks to the guest's vmlet-agent: short,
// since a unix socket's path has at most 107 bytes.
func (n Node) AgentSocket(id string) string { return filepath.Join(n.State, "agent", id+".sock") }

// Shares holds the tree of bind mounts of each sandbox that has some.
func (n Node) Shares() string { return filepath.Join(n.State, "shares") }

// Share is the tree of one sandbox, which its guest sees by virtiofs.
func (n Node) Share(id string) string { return filepath.Join(n.Shares(), id) }

// ShareSocket is where QEMU finds the virtiofsd that replaces one that died. QEMU connects
// by itself, and its user sees nothing in State.
func (n Node) ShareSocket(id string) string { return filepath.Join(n.Sandbox(id), "share.sock") }

// NetNS holds a bind mount per sandbox's network namespace. Being in this folder is
// what marks a namespace as ours.
func (n Node) NetNS() string { return filepath.Join(n.State, "netns") }

// SandboxNetNS is the bind mount of one sandbox's network namespace.
func (n Node) SandboxNetNS(id string) string { return filepath.Join(n.NetNS(), id) }

// CNICache is libcni's cache of results; DEL reads it.
func (n Node) CNICache() string { return filepath.Join(n.Root, "cni") }

// CNIAttachments holds a file per sandbox that CNI was asked to attach: see pkg/network.
func (n Node) CNIAttachments() string { return filepath.Join(n.CNICache(), "attachments") }

// short is the part of a digest that is enough in a file name.
func short(digest string) string {
	const prefix, length = len("sha256:"), 12
	if len(digest) < prefix+length {
		return digest
	}
	return digest[prefix : prefix+length]
}
