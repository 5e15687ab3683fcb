// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/errdefs"
)

// CheckpointVersion is the newest version of the folders that are written. Those from OldestCheckpoint on are read: what has come
// since is not in them.
const (
	CheckpointVersion = 3
	OldestCheckpoint  = 1
)

// Checkpoint is what a folder with a VM in it says of itself: its manifest.json. It holds the specs of sandbox and container
// with all that is secret in them, and lies beside the guest's memory: only root reads either.
type Checkpoint struct {
	Version int `json:"version"`
	// ID is random, 32 lower-case hex digits.
	ID        string    `json:"id"`
	CreatedAt time.Time `json:"createdAt"`
	// SandboxID and ContainerID are those of the VM that it was taken of.
	SandboxID   string        `json:"sandboxID"`
	ContainerID string        `json:"containerID"`
	Sandbox     SandboxSpec   `json:"sandbox"`
	Container   ContainerSpec `json:"container"`
	// MainID is what the agent in the guest's memory knows the container's command by; MainStarted as in ContainerStatus.
	MainID      string `json:"mainID"`
	MainStarted bool   `json:"mainStarted,omitempty"`
	// NICs are the pod's own that the guest's memory knows of, AttachedNICs, since version 2, those beside them.
	NICs         []NIC           `json:"nics"`
	AttachedNICs []CheckpointNIC `json:"attachedNICs,omitempty"`
	// DiskSize is what the guest sees of its root disk, in bytes.
	DiskSize int64 `json:"diskSize"`
	// DataDisks are those that were attached: since version 2 callers' files that the guest can only read, since version 3 those
	// whose content is in the checkpoint, too.
	DataDisks []DataDisk `json:"dataDisks,omitempty"`
	// Share says that the machine was made to have folders of the host, which it is without in its memory. Since version 2.
	Share bool `json:"share,omitempty"`
	// Firmware is what the machine booted by, "" for BIOS. Since version 3.
	Firmware Firmware `json:"firmware,omitempty"`
	// Machine is the size of the machine, MachineType its versioned type for QEMU.
	Machine     MachineSize `json:"machine"`
	MachineType string      `json:"machineType"`
	// Configured is the size of a machine that is made of Sandbox and Container: another one than Machine for a machine that
	// was resized, which Asked is of. Zero before version 2: those are not of such machines.
	Configured MachineSize `json:"configured,omitzero"`
	Asked      SizeAsk     `json:"asked,omitzero"`
	Accel      Accel       `json:"accel"`
	// Libvirt and QEMU are the versions that wrote it, "" where they were not known.
	Libvirt string `json:"libvirt,omitempty"`
	QEMU    string `json:"qemu,omitempty"`
	// Paused is how long the guest stood still for it.
	Paused time.Duration `json:"paused,omitempty"`
	// Files are the other files of the folder.
	Files []CheckpointFile `json:"files"`
}

// CheckpointNIC is a NIC that was attached to a machine.
type CheckpointNIC struct {
	AttachedNIC

	// Config is the CNI configuration that it was attached with in place of the node's, nil for none. It may hold secrets.
	Config json.RawMessage `json:"config,omitempty"`
}

// KnownNICs are all that the guest's memory knows of, the pod's own first.
func (c Checkpoint) KnownNICs() []NIC {
	nics := slices.Clone(c.NICs)
	for _, n := range c.AttachedNICs {
		if n.NIC != nil {
			nics = append(nics, *n.NIC)
		}
	}
	return nics
}

// The files of a checkpoint.
const (
	// CheckpointManifest is written last: a folder without it holds no checkpoint.
	CheckpointManifest = "manifest.json"
	// CheckpointMemory is the guest's memory with the state of its devices, as libvirt saves it.
	CheckpointMemory = "memory.save"
	// CheckpointDisk is a qcow2 file of what the root disk has beyond its image; it names no backing file.
	CheckpointDisk = "root.qcow2"
	// CheckpointNVRAM is what UEFI kept, of a machine that booted by it.
	CheckpointNVRAM = "root.nvram"
)

// CheckpointFile is one file of a checkpoint.
type CheckpointFile struct {
	Name string `json:"name"`
	// Size is bytes, SHA256 hex digits, of all of it.
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Names are the files that a checkpoint must have beside its manifest.
func (c Checkpoint) Names() []string {
	names := []string{CheckpointMemory, CheckpointDisk}
	for _, d := range c.OwnDisks() {
		names = append(names, CheckpointData(d.Target))
	}
	if c.Firmware == FirmwareEFI {
		names = append(names, CheckpointNVRAM)
	}
	return names
}

// File finds a file of a checkpoint. DataLoss if it is not listed.
func (c Checkpoint) File(name string) (CheckpointFile, error) {
	i := slices.IndexFunc(c.Files, func(f CheckpointFile) bool { return f.Name == name })
	if i < 0 {
		return CheckpointFile{}, fmt.Errorf("the checkpoint lists no %s: %w", name, errdefs.ErrDataLoss)
	}
	return c.Files[i], nil
}

// CheckpointFolder is where a checkpoint is written.
type CheckpointFolder struct {
	Dir string `json:"dir"`
	// Root is the folder above it that the configuration allows.
	Root string `json:"root"`
	// Made: Dir was not there, and appears whole. Else it was there, empty, and only its files are ours.
	Made bool `json:"made,omitempty"`
}

// PodRestore asks for a pod that goes on from a checkpoint.
type PodRestore struct {
	// Dir is the checkpoint's folder.
	Dir       string
	Sandbox   SandboxSpec
	Container ContainerSpec
}

// RestoredPod is what came of it.
type RestoredPod struct {
	SandboxID, ContainerID string
}

// FromCheckpoint is what a container that was made from a checkpoint brings along.
type FromCheckpoint struct {
	// ID is the checkpoint's.
	ID string `json:"id"`
	// Pending is set until the guest's memory was let go on: it is never twice, since the disk goes on with it.
	Pending bool `json:"pending,omitempty"`
	// MainID is what the agent knows the container's command by.
	MainID string `json:"mainID"`
	// NICs are those that the guest's memory knows of, for as long as the guest was not told of others.
	NICs []NIC `json:"nics,omitempty"`
}

// GuestID is what the agent in the guest knows the container by.
func (c Container) GuestID() string {
	if c.Status.Checkpoint != nil {
		return c.Status.Checkpoint.MainID
	}
	return c.ID
}

// SameProcess refuses, by the field, a container whose process is another than the one that runs in the checkpoint. Values
// are not told: they may be secret.
func (c Checkpoint) SameProcess(spec ContainerSpec) error {
	was := c.Container
	for _, f := range []struct {
		field    string
		was, now any
	}{
		{"image", was.ImageID, spec.ImageID},
		{"command", list(was.Command), list(spec.Command)},
		{"args", list(was.Args), list(spec.Args)},
		{"working_dir", was.WorkingDir, spec.WorkingDir},
		{"envs", list(was.Env), list(spec.Env)},
		{"tty", was.TTY, spec.TTY},
		{"stdin", was.Stdin, spec.Stdin},
		{"stdin_once", was.StdinOnce, spec.StdinOnce},
		{"linux.security_context", was.Security, spec.Security},
	} {
		a, err := json.Marshal(f.was)
		if err != nil {
			return err
		}
		b, err := json.Marshal(f.now)
		if err != nil {
			return err
		}
		if !bytes.Equal(a, b) {
			return fmt.Errorf("%s of container %q is another than the checkpoint's, in which the process runs already: %w",
				f.field, spec.Name, errdefs.ErrFailedPrecondition)
		}
	}
	return nil
}

// list makes no difference between an empty list and none.
func list[T any](all []T) []T {
	if len(all) == 0 {
		return nil
	}
	return all
}
