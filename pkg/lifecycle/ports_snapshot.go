// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"

	"github.com/vmlet/vmlet/pkg/vm"
)

// Snapshotter is the part of a Hypervisor that works on the layers under a machine's disks. A disk is named by the file
// that the machine writes to. What moves bytes goes on when ctx ends, and libvirt does it later: look at the Chains before
// doing it again.
type Snapshotter interface {
	// Snapshot has an active machine write to what.Disks' Next from one moment on, to all of them or to none, and with what.Memory
	// writes its memory of that moment to a file that only root can read. The guest runs meanwhile, but for the end of it; one that is
	// paused stays so. Each Next is there, an overlay on its Disk. FailedPrecondition for an inactive one, for one that does not
	// write to such a Disk, or for one with a device that QEMU cannot save.
	Snapshot(ctx context.Context, id string, what vm.Snapshotting) error
	// Saving tells whether libvirt is at work on a snapshot of a domain, also one that nobody waits for any more.
	Saving(ctx context.Context, id string) (bool, error)
	// Progress tells how far libvirt is with what it does to an active machine: writing its memory, or merging layers under
	// a disk. Nothing while it does neither.
	Progress(ctx context.Context, id string) (vm.Progress, error)
	// AbortSaving has libvirt give up the memory that it writes for a snapshot: Snapshot fails then, and the machine runs on
	// as it was. nil where it writes none, or all of it is written.
	AbortSaving(ctx context.Context, id string) error
	// DefineDisks gives disks of an inactive domain other files in its definition, and what the firmware keeps with the one to boot
	// from. The rest of that is left alone, and a target that is not in it passed over. FailedPrecondition for an active one. Idempotent.
	DefineDisks(ctx context.Context, id string, disks []vm.DiskFiles) error
	// StartFromMemory is Start of a domain whose guest goes on in the memory of a snapshot: the disks and files of the
	// definition take the place of those that the memory was saved with, and what the firmware kept is a part of the memory. The machine has the devices of that moment: of
	// nics, those that are on record, what it had by the same tap and MAC; others that it had have no carrier, and a tap
	// of another name. Disks that it had not are left out; FailedPrecondition for one that the definition has not. It has
	// no share, which ReplugShare gives it.
	StartFromMemory(ctx context.Context, id, memory string, nics []vm.NIC) (vm.Awoken, error)
	// UnplugSurplus is UnplugNIC for all NICs of the running machine but these.
	UnplugSurplus(ctx context.Context, id string, nics []vm.NIC) error
	// Chains are the files of each disk of an active machine, the boot disk's first: the one that is written to, and those
	// below it, nearest first. FailedPrecondition for an inactive one.
	Chains(ctx context.Context, id string) ([][]string, error)
	// PullLayer copies what is in between the file that a disk of an active machine is written to and the file base, which is below
	// it, into the former, and returns when that is right above base, or for a base of "" on nothing. Done already is a success.
	PullLayer(ctx context.Context, id, path, base string) error
	// CommitLayer copies the file from, which is below a disk of an active machine, into the one right below that,
	// and returns when from is not in the chain any more. Done already is a success.
	CommitLayer(ctx context.Context, id, from, into string) error
}

// Layerer is the part of Disks that works on layers that no QEMU writes to.
type Layerer interface {
	// HandOver makes the file one that QEMU may read and write, whoever had it before: libvirt gives and takes files by
	// rules of its own. Idempotent.
	HandOver(ctx context.Context, path string) error
	// PullFile copies what is below path and above the file base into path, and sets it on base, or with a path of "" on none: what
	// a guest sees of it stays. FailedPrecondition while a QEMU writes to it. Idempotent.
	PullFile(ctx context.Context, path string, base vm.BackingFile) error
	// SetBase sets a file on another one with the same content, or with a path of "" on none: what it does not have itself
	// reads as zeros then. FailedPrecondition while a QEMU writes to it. Idempotent.
	SetBase(ctx context.Context, path string, base vm.BackingFile) error
	// CopyFile makes the file to of what is in from, whole or not at all, in place of an older one, for QEMU to write to. Where from
	// is not there, to is not either. A machine that has from open may write to it meanwhile: see SameFiles.
	CopyFile(ctx context.Context, from, to string) error
	// SameFiles tells whether two files hold the same, or neither is there.
	SameFiles(ctx context.Context, a, b string) (bool, error)
	// FileUsage is what one file takes on the host; nothing if it is not there.
	FileUsage(ctx context.Context, path string) (vm.FSUsage, error)
}
