// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"

	"github.com/vmlet/vmlet/pkg/vm"
)

// Adopter is the part of a Hypervisor that lets the memory of one machine go on as another.
type Adopter interface {
	// SavedMachine is the versioned type of the machine whose memory a file holds, such as "pc-q35-7.2".
	SavedMachine(ctx context.Context, memory string) (string, error)
	// Adopt is the XML that memory was saved with, as m's: its identity and its taps, each the one that m's NIC of the name
	// has; nics are those of the saved machine, loaders the files of this node's UEFI. FailedPrecondition for a machine that m cannot
	// stand for. Pure.
	Adopt(xml string, m vm.Machine, nics []vm.NIC, loaders []string) (string, error)
}

// CheckpointFolders is the part of Disks that writes and reads the folders of checkpoints. They are their callers': below a
// folder that the configuration allows, found by no link, and root's, as everything on the way to them is. What is in them
// only root can read. FailedPrecondition, with what to do about it, for any other.
type CheckpointFolders interface {
	// PlanCheckpoint judges where a checkpoint is to be written: an empty folder, or nothing yet in one that is there.
	// AlreadyExists if there is something. It changes nothing.
	PlanCheckpoint(ctx context.Context, dir string) (vm.CheckpointFolder, error)
	// WriteCheckpoint copies a file of a sandbox into the folder. told is called with what is copied by then, often.
	WriteCheckpoint(ctx context.Context, where vm.CheckpointFolder, name, from string, told func(vm.Progress)) (vm.CheckpointFile, error)
	// EndCheckpoint makes of the folder a checkpoint: the manifest is written last, and a folder that was not there
	// appears.
	EndCheckpoint(ctx context.Context, where vm.CheckpointFolder, c vm.Checkpoint) error
	// RemoveCheckpoint removes what is of the checkpoint with this ID, begun or ended, and the folder if it was made for
	// it. Idempotent.
	RemoveCheckpoint(ctx context.Context, where vm.CheckpointFolder, id string) error
	// ReadCheckpoint reads the manifest, and looks whether all files are there. NotFound if there is none; DataLoss if
	// one is not as it was written, as far as can be seen without reading it.
	ReadCheckpoint(ctx context.Context, dir string) (vm.Checkpoint, error)
	// FetchDisk, FetchNVRAM and FetchMemory make a file of a sandbox of one of a checkpoint, whole or not at all: the disk without a
	// file below it, the memory with the XML that adopt makes of its own. DataLoss if it is not what was written. A file
	// that is there is left alone.
	FetchDisk(ctx context.Context, dir string, file vm.CheckpointFile, path string) error
	FetchNVRAM(ctx context.Context, dir string, file vm.CheckpointFile, path string) error
	FetchMemory(ctx context.Context, dir string, file vm.CheckpointFile, path string, adopt func(xml string) (string, error)) error
}
