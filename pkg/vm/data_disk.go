// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/containerd/errdefs"
)

// The names of the disks that every VM has. No data disk has one of them, nor such a serial number.
const (
	RootDiskName = "root"
	SeedDiskName = "seed"
)

// SectorSize is what the size of a disk is a multiple of, in bytes.
const SectorSize = 512

// MaxDataDisk bounds the size of a disk in bytes.
const MaxDataDisk = int64(64 << 40)

// maxSerial is the length of a serial number that virtio-blk carries.
const maxSerial = 20

var (
	dataDiskName   = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)
	dataDiskSerial = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,20}$`)
)

// DataDiskState is where a data disk stands.
//
//	AttachDisk         undone
//	    |      .------------------> (no record)
//	    v     /
//	Attaching
//	    |
//	    v                          kept, if its file is ours
//	Attached <-- the guest     .----------------------> Detached
//	    |        keeps it     /                          |    |
//	    | DetachDisk    \    /                AttachDisk |    | DetachDisk with delete
//	    '-------------> Detaching                        v    v
//	                          \                 Attaching    Detaching
//	                           '--> (no record)
type DataDiskState string

// The states of a data disk.
const (
	// DataDiskAttaching: on its way into the machine.
	DataDiskAttaching DataDiskState = "Attaching"
	// DataDiskAttached: in the machine, and in each that comes after it; with no machine there now, in the next.
	DataDiskAttached DataDiskState = "Attached"
	// DataDiskDetaching: the guest was asked to let go of it, or its file is being removed.
	DataDiskDetaching DataDiskState = "Detaching"
	// DataDiskDetached: in no machine; the file is kept.
	DataDiskDetached DataDiskState = "Detached"
)

// DataDiskSpec is what the caller of AttachDisk asked for: a disk of a size, whose file is ours and goes with the
// sandbox, or the file or block device at a path, which stays the caller's.
type DataDiskSpec struct {
	// Path is the caller's, absolute, "" for a disk by size.
	Path string `json:"path,omitempty"`
	// Size is in bytes, 0 for a disk by path.
	Size   int64      `json:"size,omitempty"`
	Format DiskFormat `json:"format"`
	// Bus is BusVirtio or BusSCSI.
	Bus string `json:"bus"`
	// Serial is what the guest sees as the disk's serial number, "" to be chosen.
	Serial   string `json:"serial,omitempty"`
	ReadOnly bool   `json:"readOnly,omitempty"`
}

// Check completes a spec and says what is wrong with it: InvalidArgument.
func (s DataDiskSpec) Check(name string) (DataDiskSpec, error) {
	if err := CheckDataDiskName(name); err != nil {
		return s, err
	}
	if s.Bus == "" {
		s.Bus = BusVirtio
	}
	if s.Path == "" && s.Format == "" {
		s.Format = FormatQCOW2
	}
	switch {
	case (s.Path == "") == (s.Size == 0):
		return s, badDisk("a disk has either a size or a path, this one has size %d and path %q", s.Size, s.Path)
	case s.Path == "" && (s.Size < 0 || s.Size > MaxDataDisk):
		return s, badDisk("size of %d bytes: it must be from 1 to %d", s.Size, MaxDataDisk)
	case s.Path == "" && s.Format != FormatQCOW2:
		return s, badDisk("format %q: a disk by size is a %s file", s.Format, FormatQCOW2)
	case s.Path == "" && s.ReadOnly:
		return s, badDisk("a new disk that cannot be written would stay empty: leave out read-only, or name a path")
	case s.Path != "" && (!filepath.IsAbs(s.Path) || filepath.Clean(s.Path) != s.Path):
		return s, badDisk("path %q: it must be absolute and clean, without \"..\"", s.Path)
	case s.Path != "" && s.Format != FormatQCOW2 && s.Format != FormatRaw:
		return s, badDisk("format %q: say %s or %s; guessing it would trust what a guest has written there", s.Format, FormatRaw, FormatQCOW2)
	case s.Bus != BusVirtio && s.Bus != BusSCSI:
		return s, badDisk("bus %q is neither %s nor %s", s.Bus, BusVirtio, BusSCSI)
	case s.Serial != "" && !dataDiskSerial.MatchString(s.Serial):
		return s, badDisk("serial number %q: it must be 1 to %d of the characters A-Z, a-z, 0-9, _, . and -", s.Serial, maxSerial)
	case s.Serial == RootDiskName || s.Serial == SeedDiskName:
		return s, badDisk("serial number %q is that of a disk which every VM has", s.Serial)
	}
	s.Size = (s.Size + SectorSize - 1) / SectorSize * SectorSize
	return s, nil
}

// CheckDataDiskName is InvalidArgument for what cannot be the name of a data disk.
func CheckDataDiskName(name string) error {
	switch {
	case !dataDiskName.MatchString(name):
		return badDisk("name %q: it must be 1 to 64 of the characters A-Z, a-z, 0-9, _, . and -", name)
	case name == RootDiskName || name == SeedDiskName:
		return badDisk("name %q is that of a disk which every VM has", name)
	}
	return nil
}

func badDisk(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, errdefs.ErrInvalidArgument)...)
}

// DataDisk is the record of a disk that somebody attached to a VM. It belongs to the sandbox, and is in each of its
// machines until it is detached.
type DataDisk struct {
	Name string `json:"name"`
	// ID is random: it names the file of a disk by size, so that one which is made anew under an old name shares nothing
	// with the old one.
	ID        string        `json:"id"`
	CreatedAt time.Time     `json:"createdAt"`
	Spec      DataDiskSpec  `json:"spec"`
	State     DataDiskState `json:"state"`
	// Path is the file or device that QEMU opens; Block is set for a device.
	Path  string `json:"path"`
	Block bool   `json:"block,omitempty"`
	// Layer is the ID of the layer right below a file of ours, "" for none.
	Layer string `json:"layer,omitempty"`
	// Identity names what is at a caller's path, by whatever path it is reached. "" for a disk by size.
	Identity string `json:"identity,omitempty"`
	// Size is what the guest is to see, in bytes. It only grows, but for a restore.
	Size int64 `json:"size"`
	// Target is libvirt's name for the device, such as "vdc".
	Target string `json:"target"`
	Serial string `json:"serial"`
	// Delete is set while detaching, if the file is to go.
	Delete bool `json:"delete,omitempty"`
}

// Own tells whether the file is ours, and goes with the sandbox.
func (d DataDisk) Own() bool { return d.Spec.Path == "" }

// DataFile is where the content of a data disk of ours is.
type DataFile struct {
	// Path is the file that the guest writes to, Layer the ID of the layer below it, Size what the guest sees, in bytes.
	Path  string `json:"path"`
	Layer string `json:"layer,omitempty"`
	Size  int64  `json:"size"`
}

// File is the disk's present one.
func (d DataDisk) File() DataFile { return DataFile{d.Path, d.Layer, d.Size} }

// WithFile is the disk with another one.
func (d DataDisk) WithFile(f DataFile) DataDisk {
	d.Path, d.Layer, d.Size = f.Path, f.Layer, f.Size
	return d
}

// Differs says what of a disk is not as spec asks, "" for nothing. A disk that has grown is as it was asked for.
func (d DataDisk) Differs(spec DataDiskSpec) string {
	var diffs []string
	for _, part := range []struct {
		what      string
		have, ask any
	}{
		{"path", d.Spec.Path, spec.Path}, {"format", d.Spec.Format, spec.Format}, {"bus", d.Spec.Bus, spec.Bus},
		{"read-only", d.Spec.ReadOnly, spec.ReadOnly},
	} {
		if part.have != part.ask {
			diffs = append(diffs, fmt.Sprintf("%s is %q, not %q", part.what, fmt.Sprint(part.have), fmt.Sprint(part.ask)))
		}
	}
	if spec.Size != d.Spec.Size && spec.Size != d.Size {
		diffs = append(diffs, fmt.Sprintf("size is %d bytes, not %d", d.Size, spec.Size))
	}
	if spec.Serial != "" && spec.Serial != d.Serial {
		diffs = append(diffs, fmt.Sprintf("serial number is %q, not %q", d.Serial, spec.Serial))
	}
	return strings.Join(diffs, ", ")
}

// MaxDataDisks is how many data disks a machine can have on one bus.
const MaxDataDisks = 24

// DataTarget is libvirt's name for the nth data disk on a bus, from 0 on. The letters a and b are left to the root disk and
// the seed on either bus: a disk keeps its name when the sandbox's next machine has those on the other one.
func DataTarget(bus string, n int) string {
	prefix := "vd"
	if bus == BusSCSI {
		prefix = "sd"
	}
	return prefix + string(rune('c'+n))
}

// ChooseSerial is the serial number of a disk whose caller named none: its name, where that can be one and is free.
func ChooseSerial(name, id string, taken func(serial string) bool) string {
	if len(name) > maxSerial || taken(name) {
		return id[:maxSerial]
	}
	return name
}

// DiskSource is what was found at a caller's path.
type DiskSource struct {
	Block bool
	// Identity is the same for all paths to one file or device.
	Identity string
	// Size is what a guest sees, Allocated what it takes on the host, both in bytes; a device takes all it has.
	Size, Allocated int64
}

// LiveDisk is a disk of a machine that runs.
type LiveDisk struct {
	Target string
	Path   string
	// Size is what the guest sees, in bytes.
	Size int64
}

// DetachRequest is what the caller of DetachDisk asks for.
type DetachRequest struct {
	// Delete removes the file of a disk by size. Without it the file is kept until the sandbox is removed.
	Delete bool
	// Wait is how long the guest is waited for; 0 for the default.
	Wait time.Duration
}

// Growth says what became of the file system on a disk that grew.
type Growth string

// What became of it.
const (
	GrowthGrown   Growth = "grown"
	GrowthSkipped Growth = "skipped"
	GrowthFailed  Growth = "failed"
)

// DiskResized says how a disk has grown.
type DiskResized struct {
	// Before and Size are what the guest saw and sees, in bytes.
	Before, Size int64
	// FileSystem is "" where its growth was not asked for. Detail says what was grown, or why not.
	FileSystem Growth
	Detail     string
}

// FileSystemGrowth is a guest's answer.
type FileSystemGrowth struct {
	Outcome Growth
	Detail  string
}

// VMDisk is a disk of a VM as it is seen from outside.
type VMDisk struct {
	Name string
	// Root and Seed mark the two that every VM has; all others are data disks.
	Root, Seed bool
	State      DataDiskState
	// Layers are the files that it is made of, the one that is written first.
	Layers []DiskLayer
	// Size is what the guest sees, Allocated what its own file takes on the host, in bytes.
	Size, Allocated int64
	Bus, Target     string
	Serial          string
	ReadOnly, Own   bool
	// Problem says why the disk could not be looked at, "" where it could.
	Problem string
}

// DiskLayer is one file under a disk.
type DiskLayer struct {
	Path   string
	Format DiskFormat
	// Allocated is what it takes on the host, in bytes.
	Allocated int64
	// Shared is set for an image, which is under other disks too.
	Shared bool
}
