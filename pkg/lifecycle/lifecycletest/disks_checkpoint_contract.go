// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"testing"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

const contractCheckpoint = "00000000000000000000000000000001"

// checkpointed writes a checkpoint of a disk with something on it, and of memory.
func checkpointed(t *testing.T, h DisksHost, dir string) (vm.CheckpointFolder, vm.Checkpoint) {
	t.Helper()
	disk := h.rootDisk(t, contractSandbox, "main", 4*vm.MiB)
	noError(t, h.Disks.CreateRoot(t.Context(), disk))
	h.Put(t, disk.Path, 1, 'a')
	noError(t, h.Disks.SetBase(t.Context(), disk.Path, vm.BackingFile{}))
	memory := h.Paths.SnapshotMemory(contractSandbox, "s1")
	h.Memory(t, memory)
	where, err := h.Disks.PlanCheckpoint(t.Context(), dir)
	noError(t, err)
	c := vm.Checkpoint{Version: vm.CheckpointVersion, ID: contractCheckpoint, DiskSize: 4 * vm.MiB}
	for name, from := range map[string]string{vm.CheckpointDisk: disk.Path, vm.CheckpointMemory: memory} {
		file, err := h.Disks.WriteCheckpoint(t.Context(), where, name, from)
		noError(t, err)
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
	if got.ID != c.ID || got.DiskSize != c.DiskSize || len(got.Files) != 2 {
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
		_, err = h.Disks.WriteCheckpoint(t.Context(), where, vm.CheckpointMemory, memory)
		noError(t, err)
		noError(t, h.Disks.RemoveCheckpoint(t.Context(), where, contractCheckpoint))
		again, err := h.Disks.PlanCheckpoint(t.Context(), dir)
		noError(t, err)
		if again != where {
			t.Errorf("once removed, it is %+v, and was %+v", again, where)
		}
	}
}

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
