// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"testing"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/paths"
	"github.com/vmlet/vmlet/pkg/vm"
)

const (
	contractCheckpoint = "00000000000000000000000000000001"
	contractTarget     = "vdc"
)

// checkpointed writes a checkpoint of two disks with something on them, and of memory.
func checkpointed(t *testing.T, h DisksHost, dir string) (vm.CheckpointFolder, vm.Checkpoint) {
	t.Helper()
	disk := h.rootDisk(t, contractSandbox, "main", 4*vm.MiB)
	noError(t, h.Disks.CreateRoot(t.Context(), disk))
	h.Put(t, disk.Path, 1, 'a')
	noError(t, h.Disks.SetBase(t.Context(), disk.Path, vm.BackingFile{}))
	data := h.Paths.DataDisk(contractSandbox, "d1")
	noError(t, h.Disks.CreateData(t.Context(), data, 2*vm.MiB))
	h.Put(t, data, 1, 'b')
	memory := h.Paths.SnapshotMemory(contractSandbox, "s1")
	h.Memory(t, memory)
	where, err := h.Disks.PlanCheckpoint(t.Context(), dir)
	noError(t, err)
	nvram := paths.NVRAM(disk.Path)
	noError(t, h.Disks.CreateSpool(t.Context(), nvram))
	h.Mark(t, nvram)
	c := vm.Checkpoint{
		Version: vm.CheckpointVersion, ID: contractCheckpoint, DiskSize: 4 * vm.MiB, Firmware: vm.FirmwareEFI,
		DataDisks: []vm.DataDisk{{Name: "data", Target: contractTarget}, {Name: "iso", Target: "vdd", Spec: vm.DataDiskSpec{Path: "/iso"}}},
	}
	for name, from := range map[string]string{
		vm.CheckpointDisk: disk.Path, vm.CheckpointMemory: memory, vm.CheckpointData(contractTarget): data, vm.CheckpointNVRAM: nvram,
	} {
		var last vm.Progress
		file, err := h.Disks.WriteCheckpoint(t.Context(), where, name, from, func(p vm.Progress) {
			if p.Done < last.Done || p.Done > p.Total {
				t.Errorf("%s: %+v after %+v", name, p, last)
			}
			last = p
		})
		noError(t, err)
		if want := (vm.Progress{Done: file.Size, Total: file.Size}); last != want {
			t.Errorf("%s: told of %+v at last, want %+v", name, last, want)
		}
		c.Files = append(c.Files, file)
		if _, err := h.Disks.ReadCheckpoint(t.Context(), dir); !errdefs.IsNotFound(err) {
			t.Errorf("before its end: %v, want NotFound", err)
		}
	}
	noError(t, h.Disks.EndCheckpoint(t.Context(), where, c))
	return where, c
}

func checkpointIsWrittenAndRead(t *testing.T, h DisksHost) {
	t.Helper()
	dir := h.CheckpointDir(t) + "/new"
	where, c := checkpointed(t, h, dir)
	if !where.Made {
		t.Error("the folder was there")
	}
	got, err := h.Disks.ReadCheckpoint(t.Context(), dir)
	noError(t, err)
	if got.ID != c.ID || got.DiskSize != c.DiskSize || len(got.Files) != 4 {
		t.Errorf("got %+v", got)
	}
	if _, err := h.Disks.PlanCheckpoint(t.Context(), dir); !errdefs.IsAlreadyExists(err) {
		t.Errorf("another in its place: %v, want AlreadyExists", err)
	}
	disk, memory := h.Paths.RootDisk(otherSandbox, "main", contractImage), h.Paths.SnapshotMemory(otherSandbox, "s2")
	file, err := got.File(vm.CheckpointDisk)
	noError(t, err)
	noError(t, h.Disks.FetchDisk(t.Context(), dir, file, disk))
	image, format := h.Image(t, vm.MiB)
	noError(t, h.Disks.SetBase(t.Context(), disk, vm.BackingFile{Path: image, Format: format}))
	if value := h.Get(t, disk, 1); value != 'a' {
		t.Errorf("the disk has %q", value)
	}
	data := h.Paths.DataDisk(otherSandbox, "d2")
	file, err = got.File(vm.CheckpointData(contractTarget))
	noError(t, err)
	noError(t, h.Disks.FetchDisk(t.Context(), dir, file, data))
	if value, size := h.Get(t, data, 1), h.Size(t, data); value != 'b' || size != 2*vm.MiB {
		t.Errorf("the data disk has %q in %d bytes", value, size)
	}
	file, err = got.File(vm.CheckpointNVRAM)
	noError(t, err)
	nvram := paths.NVRAM(disk)
	noError(t, h.Disks.FetchNVRAM(t.Context(), dir, file, nvram))
	if same, err := h.Disks.SameFiles(t.Context(), nvram, paths.NVRAM(h.Paths.RootDisk(contractSandbox, "main", contractImage))); err != nil || !same {
		t.Errorf("what UEFI keeps is the same: %v, %v", same, err)
	}
	file, err = got.File(vm.CheckpointMemory)
	noError(t, err)
	saved := ""
	noError(t, h.Disks.FetchMemory(t.Context(), dir, file, memory, func(xml string) (string, error) { saved = xml; return "other", nil }))
	if !h.Exists(t, memory) || saved == "" {
		t.Errorf("memory that was saved with %q", saved)
	}
	refused := h.Paths.SnapshotMemory(otherSandbox, "s3")
	err = h.Disks.FetchMemory(t.Context(), dir, file, refused, func(string) (string, error) { return "", errdefs.ErrFailedPrecondition })
	if !errdefs.IsFailedPrecondition(err) || h.Exists(t, refused) {
		t.Errorf("memory that is refused: %v", err)
	}
}

func checkpointIsRemoved(t *testing.T, h DisksHost) {
	t.Helper()
	made, empty := h.CheckpointDir(t)+"/made", h.CheckpointDir(t)+"/empty"
	h.MakeFolder(t, empty)
	for _, dir := range []string{made, empty} {
		where, _ := checkpointed(t, h, dir)
		noError(t, h.Disks.RemoveCheckpoint(t.Context(), where, "another"))
		if _, err := h.Disks.ReadCheckpoint(t.Context(), dir); err != nil {
			t.Errorf("the removal of another one: %v", err)
		}
		for range 2 {
			noError(t, h.Disks.RemoveCheckpoint(t.Context(), where, contractCheckpoint))
		}
		again, err := h.Disks.PlanCheckpoint(t.Context(), dir)
		noError(t, err)
		if again != where {
			t.Errorf("once removed, it is %+v, and was %+v", again, where)
		}
		noError(t, h.Disks.RemoveSandbox(t.Context(), contractSandbox))
	}
}

func checkpointThatWasBegunIsRemoved(t *testing.T, h DisksHost) {
	t.Helper()
	made, empty := h.CheckpointDir(t)+"/made", h.CheckpointDir(t)+"/empty"
	h.MakeFolder(t, empty)
	memory := h.Paths.SnapshotMemory(contractSandbox, "s1")
	h.Memory(t, memory)
	for _, dir := range []string{made, empty} {
		where, err := h.Disks.PlanCheckpoint(t.Context(), dir)
		noError(t, err)
		noError(t, h.Disks.RemoveCheckpoint(t.Context(), where, contractCheckpoint))
		for _, name := range []string{vm.CheckpointMemory, vm.CheckpointData(contractTarget), vm.CheckpointData("sdz")} {
			_, err = h.Disks.WriteCheckpoint(t.Context(), where, name, memory, nobody)
			noError(t, err)
		}
		noError(t, h.Disks.RemoveCheckpoint(t.Context(), where, contractCheckpoint))
		again, err := h.Disks.PlanCheckpoint(t.Context(), dir)
		noError(t, err)
		if again != where {
			t.Errorf("once removed, it is %+v, and was %+v", again, where)
		}
	}
}

// nobody is told how far a copy is.
func nobody(vm.Progress) {}

func spoiledCheckpointIsNotTaken(t *testing.T, h DisksHost) {
	t.Helper()
	dir := h.CheckpointDir(t) + "/spoiled"
	_, c := checkpointed(t, h, dir)
	h.Spoil(t, dir, vm.CheckpointDisk)
	file, err := c.File(vm.CheckpointDisk)
	noError(t, err)
	path := h.Paths.RootDisk(otherSandbox, "main", contractImage)
	if err := h.Disks.FetchDisk(t.Context(), dir, file, path); !errdefs.IsDataLoss(err) {
		t.Errorf("got %v, want DataLoss", err)
	}
	if h.Exists(t, path) {
		t.Error("it was taken")
	}
}

func checkpointWithoutADiskIsNotRead(t *testing.T, h DisksHost) {
	t.Helper()
	memory := h.Paths.SnapshotMemory(contractSandbox, "s1")
	h.Memory(t, memory)
	where, err := h.Disks.PlanCheckpoint(t.Context(), h.CheckpointDir(t)+"/less")
	noError(t, err)
	c := vm.Checkpoint{Version: vm.CheckpointVersion, ID: contractCheckpoint, DataDisks: []vm.DataDisk{{Name: "data", Target: contractTarget}}}
	for _, name := range []string{vm.CheckpointMemory, vm.CheckpointDisk} {
		file, err := h.Disks.WriteCheckpoint(t.Context(), where, name, memory, nobody)
		noError(t, err)
		c.Files = append(c.Files, file)
	}
	noError(t, h.Disks.EndCheckpoint(t.Context(), where, c))
	if _, err := h.Disks.ReadCheckpoint(t.Context(), where.Dir); !errdefs.IsDataLoss(err) {
		t.Errorf("got %v, want DataLoss", err)
	}
}

// checkpointThatNamesAFileIsNotTaken: QEMU would open that.
func checkpointThatNamesAFileIsNotTaken(t *testing.T, h DisksHost) {
	t.Helper()
	below, data := h.Paths.DataDisk(contractSandbox, "below"), h.Paths.DataDisk(contractSandbox, "d1")
	noError(t, h.Disks.CreateData(t.Context(), below, vm.MiB))
	noError(t, h.Disks.CreateRoot(t.Context(), vm.Disk{Path: data, Backing: below, BackingFormat: vm.FormatQCOW2, Size: vm.MiB}))
	where, err := h.Disks.PlanCheckpoint(t.Context(), h.CheckpointDir(t)+"/chain")
	noError(t, err)
	file, err := h.Disks.WriteCheckpoint(t.Context(), where, vm.CheckpointData(contractTarget), data, nobody)
	noError(t, err)
	noError(t, h.Disks.EndCheckpoint(t.Context(), where, vm.Checkpoint{ID: contractCheckpoint}))
	path := h.Paths.DataDisk(otherSandbox, "d2")
	if err := h.Disks.FetchDisk(t.Context(), where.Dir, file, path); !errdefs.IsFailedPrecondition(err) || h.Exists(t, path) {
		t.Errorf("got %v, want FailedPrecondition", err)
	}
}

func checkpointsElsewhereAreRefused(t *testing.T, h DisksHost) {
	t.Helper()
	for dir, is := range map[string]func(error) bool{
		"relative": errdefs.IsInvalidArgument, h.CheckpointDir(t) + "/a/../b": errdefs.IsInvalidArgument,
		"/etc/vmlet-checkpoint": errdefs.IsFailedPrecondition, h.CheckpointDir(t): errdefs.IsFailedPrecondition,
	} {
		if _, err := h.Disks.PlanCheckpoint(t.Context(), dir); !is(err) {
			t.Errorf("to %s: %v", dir, err)
		}
	}
	if _, err := h.Disks.ReadCheckpoint(t.Context(), "/etc/vmlet-checkpoint"); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("from elsewhere: %v", err)
	}
	if _, err := h.Disks.ReadCheckpoint(t.Context(), h.CheckpointDir(t)+"/none"); !errdefs.IsNotFound(err) {
		t.Errorf("from nowhere: %v", err)
	}
}
