// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/lifecycle"
	"github.com/vmlet/vmlet/pkg/paths"
	"github.com/vmlet/vmlet/pkg/vm"
)

// DisksHost is a lifecycle.Disks with the host around it.
type DisksHost struct {
	Disks lifecycle.Disks
	// Paths are the folders that Disks was made for.
	Paths paths.Node
	// Image makes a base image of so many bytes and returns its file and format.
	Image func(t *testing.T, size int64) (path string, format vm.DiskFormat)
	// LoseImage takes the base image away.
	LoseImage func(t *testing.T, path string)
	// Size is what a guest would see of a root disk, in bytes.
	Size func(t *testing.T, path string) int64
	// Exists tells whether a file is there; Mark changes it as a running guest does, and
	// Marked tells whether it still has that change.
	Exists func(t *testing.T, path string) bool
	Mark   func(t *testing.T, path string)
	Marked func(t *testing.T, path string) bool
	// Put has a guest write a block of 64 KiB to a disk, Get has one read it, through the files below the disk.
	Put func(t *testing.T, path string, block int, value byte)
	Get func(t *testing.T, path string, block int) byte
	// CheckpointDir is an allowed folder for checkpoints, MakeFolder makes an empty one, Spoil changes a byte of a file in one.
	CheckpointDir func(t *testing.T) string
	MakeFolder    func(t *testing.T, dir string)
	Spoil         func(t *testing.T, dir, name string)
	// Memory makes a file with a guest's memory.
	Memory func(t *testing.T, path string)
}

// RunDisks is the contract of lifecycle.Disks. open returns one without any files.
func RunDisks(t *testing.T, open func(t *testing.T) DisksHost) {
	t.Helper()
	for name, run := range map[string]func(*testing.T, DisksHost){
		"a root disk is made":                         rootDiskIsMade,
		"a root disk with data is left alone":         rootDiskIsLeftAlone,
		"a root disk without its image is not made":   rootDiskNeedsItsImage,
		"a root disk grows and never shrinks":         rootDiskGrows,
		"a root disk that is not there cannot grow":   absentRootDoesNotGrow,
		"a persistent disk is not a sandbox's":        persistentDiskIsNoSandboxes,
		"a data disk is made, and grows":              dataDiskIsMade,
		"a data disk is looked at":                    dataDiskIsLookedAt,
		"a seed is replaced":                          seedIsReplaced,
		"a spool with output is left alone":           spoolIsLeftAlone,
		"a file is removed, idempotently":             fileIsRemoved,
		"a sandbox is removed alone, idempotently":    sandboxIsRemovedAlone,
		"a sandbox can be made again":                 sandboxIsMadeAgain,
		"usage is that of the root disks":             usageIsOfRootDisks,
		"layers are pulled, and nothing is lost":      layersArePulled,
		"a base is set":                               aBaseIsSet,
		"a file is copied":                            aFileIsCopied,
		"copies elsewhere are refused":                copiesElsewhereAreRefused,
		"a layer that is not there":                   layersAreThereOrNot,
		"a checkpoint is written and read":            checkpointIsWrittenAndRead,
		"a checkpoint is removed":                     checkpointIsRemoved,
		"a checkpoint that was begun is removed":      checkpointThatWasBegunIsRemoved,
		"a checkpoint that was changed is not taken":  spoiledCheckpointIsNotTaken,
		"a checkpoint without a disk is not read":     checkpointWithoutADiskIsNotRead,
		"a checkpoint that names a file is not taken": checkpointThatNamesAFileIsNotTaken,
		"checkpoints elsewhere are refused":           checkpointsElsewhereAreRefused,
		"paths outside are InvalidArgument":           pathsOutsideAreRefused,
		"names that are none are InvalidArgument":     sandboxNamesAreChecked,
		"many may be made at once":                    disksAtOnce,
		"a context that has ended ends what it makes": endedContextMakesNothing,
	} {
		t.Run(name, func(t *testing.T) { run(t, open(t)) })
	}
}

// Two sandboxes as the contract names them.
const (
	contractSandbox = "0123456789abcdef0123456789abcdef"
	otherSandbox    = "fedcba9876543210fedcba9876543210"
	contractImage   = "sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
)

// rootDisk is the record of a root disk of a sandbox, of a size, on an image of 1 MiB.
func (h DisksHost) rootDisk(t *testing.T, id, container string, size int64) vm.Disk {
	t.Helper()
	backing, format := h.Image(t, vm.MiB)
	return vm.Disk{
		Container: container, ImageID: contractImage, Path: h.Paths.RootDisk(id, container, contractImage),
		Backing: backing, BackingFormat: format, Size: size,
	}
}

func rootDiskIsMade(t *testing.T, h DisksHost) {
	t.Helper()
	d := h.rootDisk(t, contractSandbox, "main", 4*vm.MiB)
	noError(t, h.Disks.CreateRoot(t.Context(), d))
	if !h.Exists(t, d.Path) {
		t.Error("it is not there")
	}
	wantSandboxes(t, h, contractSandbox)
}

func rootDiskIsLeftAlone(t *testing.T, h DisksHost) {
	t.Helper()
	d := h.rootDisk(t, contractSandbox, "main", 4*vm.MiB)
	noError(t, h.Disks.CreateRoot(t.Context(), d))
	h.Mark(t, d.Path)
	noError(t, h.Disks.CreateRoot(t.Context(), d))
	if !h.Marked(t, d.Path) {
		t.Error("the guest's data is gone")
	}
}

func rootDiskNeedsItsImage(t *testing.T, h DisksHost) {
	t.Helper()
	d := h.rootDisk(t, contractSandbox, "main", 4*vm.MiB)
	h.LoseImage(t, d.Backing)
	if err := h.Disks.CreateRoot(t.Context(), d); !errdefs.IsNotFound(err) {
		t.Errorf("got %v, want NotFound", err)
	}
	if h.Exists(t, d.Path) {
		t.Error("it was made")
	}
}

func rootDiskGrows(t *testing.T, h DisksHost) {
	t.Helper()
	d := h.rootDisk(t, contractSandbox, "main", 4*vm.MiB)
	noError(t, h.Disks.CreateRoot(t.Context(), d))
	for _, size := range []int64{4 * vm.MiB, 64*vm.MiB + 512, 8 * vm.MiB, 0} {
		d.Size = size
		noError(t, h.Disks.GrowRoot(t.Context(), d))
		if got, want := h.Size(t, d.Path), max(size, 4*vm.MiB); got != want && got != 64*vm.MiB+512 {
			t.Errorf("asked for %d bytes it has %d, want %d", size, got, want)
		}
	}
	if got := h.Size(t, d.Path); got != 64*vm.MiB+512 {
		t.Errorf("it has %d bytes in the end", got)
	}
}

func absentRootDoesNotGrow(t *testing.T, h DisksHost) {
	t.Helper()
	d := h.rootDisk(t, contractSandbox, "main", 4*vm.MiB)
	if err := h.Disks.GrowRoot(t.Context(), d); !errdefs.IsNotFound(err) {
		t.Errorf("got %v, want NotFound", err)
	}
	noError(t, h.Disks.WriteSeed(t.Context(), h.Paths.Seed(contractSandbox), []byte("x")))
	if err := h.Disks.GrowRoot(t.Context(), d); !errdefs.IsNotFound(err) {
		t.Errorf("beside another file: got %v, want NotFound", err)
	}
	if h.Exists(t, d.Path) {
		t.Error("it was made")
	}
}

func persistentDiskIsNoSandboxes(t *testing.T, h DisksHost) {
	t.Helper()
	const id = contractSandbox // the IDs of disks and sandboxes are apart
	noError(t, h.Disks.RemoveDisk(t.Context(), id))
	d := h.rootDisk(t, id, "main", 4*vm.MiB)
	kept := d
	kept.Path = h.Paths.PersistentDisk(id)
	noError(t, h.Disks.CreateRoot(t.Context(), d))
	noError(t, h.Disks.CreateRoot(t.Context(), kept))
	wantSandboxes(t, h, id)
	if u, err := h.Disks.DiskUsage(t.Context(), id); err != nil || u.UsedInodes != 1 || u.UsedBytes == 0 || u.MountPoint == "" {
		t.Errorf("usage %+v, %v", u, err)
	}
	noError(t, h.Disks.RemoveSandbox(t.Context(), id))
	if h.Exists(t, d.Path) || !h.Exists(t, kept.Path) {
		t.Error("the sandbox's removal did not take its own disk alone")
	}
	wantSandboxes(t, h)
	noError(t, h.Disks.CreateRoot(t.Context(), d))
	noError(t, h.Disks.RemoveDisk(t.Context(), id))
	noError(t, h.Disks.RemoveDisk(t.Context(), id))
	if !h.Exists(t, d.Path) || h.Exists(t, kept.Path) {
		t.Error("the disk's removal did not take it alone")
	}
	if u, err := h.Disks.DiskUsage(t.Context(), id); err != nil || u.UsedInodes != 0 || u.UsedBytes != 0 {
		t.Errorf("usage of a removed disk %+v, %v", u, err)
	}
}

func seedIsReplaced(t *testing.T, h DisksHost) {
	t.Helper()
	path := h.Paths.Seed(contractSandbox)
	noError(t, h.Disks.WriteSeed(t.Context(), path, []byte("one")))
	h.Mark(t, path)
	noError(t, h.Disks.WriteSeed(t.Context(), path, []byte("two")))
	if !h.Exists(t, path) || h.Marked(t, path) {
		t.Error("the old one is still there")
	}
}

func spoolIsLeftAlone(t *testing.T, h DisksHost) {
	t.Helper()
	path := h.Paths.ConsoleSpool(contractSandbox, "c1")
	noError(t, h.Disks.CreateSpool(t.Context(), path))
	h.Mark(t, path)
	noError(t, h.Disks.CreateSpool(t.Context(), path))
	if !h.Marked(t, path) {
		t.Error("output that may not be in the log yet is gone")
	}
}

func fileIsRemoved(t *testing.T, h DisksHost) {
	t.Helper()
	seed, spool := h.Paths.Seed(contractSandbox), h.Paths.ConsoleSpool(contractSandbox, "c1")
	noError(t, h.Disks.RemoveFile(t.Context(), seed))
	noError(t, h.Disks.WriteSeed(t.Context(), seed, []byte("x")))
	noError(t, h.Disks.CreateSpool(t.Context(), spool))
	noError(t, h.Disks.RemoveFile(t.Context(), seed))
	noError(t, h.Disks.RemoveFile(t.Context(), seed))
	if h.Exists(t, seed) || !h.Exists(t, spool) {
		t.Error("not that one file was removed")
	}
}

func sandboxIsRemovedAlone(t *testing.T, h DisksHost) {
	t.Helper()
	noError(t, h.Disks.RemoveSandbox(t.Context(), contractSandbox))
	d := h.rootDisk(t, contractSandbox, "main", 4*vm.MiB)
	noError(t, h.Disks.CreateRoot(t.Context(), d))
	noError(t, h.Disks.WriteSeed(t.Context(), h.Paths.Seed(contractSandbox), []byte("x")))
	noError(t, h.Disks.WriteSeed(t.Context(), h.Paths.Seed(otherSandbox), []byte("x")))
	wantSandboxes(t, h, contractSandbox, otherSandbox)

	noError(t, h.Disks.RemoveSandbox(t.Context(), contractSandbox))
	noError(t, h.Disks.RemoveSandbox(t.Context(), contractSandbox))
	wantSandboxes(t, h, otherSandbox)
	if h.Exists(t, d.Path) || !h.Exists(t, h.Paths.Seed(otherSandbox)) {
		t.Error("not that one sandbox was removed")
	}
}

func sandboxIsMadeAgain(t *testing.T, h DisksHost) {
	t.Helper()
	d := h.rootDisk(t, contractSandbox, "main", 4*vm.MiB)
	for range 2 {
		noError(t, h.Disks.CreateRoot(t.Context(), d))
		if h.Marked(t, d.Path) {
			t.Error("data came back")
		}
		h.Mark(t, d.Path)
		noError(t, h.Disks.RemoveSandbox(t.Context(), contractSandbox))
	}
}

func usageIsOfRootDisks(t *testing.T, h DisksHost) {
	t.Helper()
	none := usageOf(t, h)
	if none.UsedBytes != 0 || none.UsedInodes != 0 {
		t.Errorf("before all: %+v", none)
	}
	noError(t, h.Disks.WriteSeed(t.Context(), h.Paths.Seed(contractSandbox), make([]byte, vm.MiB)))
	noError(t, h.Disks.CreateRoot(t.Context(), h.rootDisk(t, contractSandbox, "main", 64*vm.GiB)))
	one := usageOf(t, h)
	if one.UsedInodes != 1 || one.UsedBytes == 0 || one.UsedBytes > uint64(4*vm.MiB) || one.MountPoint == "" || one.At.IsZero() {
		t.Errorf("with one disk: %+v", one)
	}
	noError(t, h.Disks.CreateRoot(t.Context(), h.rootDisk(t, contractSandbox, "init", 4*vm.MiB)))
	if two := usageOf(t, h); two.UsedInodes != 2 || two.UsedBytes <= one.UsedBytes {
		t.Errorf("with two disks: %+v", two)
	}
}

func pathsOutsideAreRefused(t *testing.T, h DisksHost) {
	t.Helper()
	dir := h.Paths.Sandboxes()
	d := h.rootDisk(t, contractSandbox, "main", 4*vm.MiB)
	for _, path := range []string{
		"", "relative", "/", "/etc/passwd", dir, dir + "/", dir + "/file", dir + "/" + contractSandbox, dir + "/" + contractSandbox + "/",
		dir + "/../escape/file", dir + "/" + contractSandbox + "/../../file", dir + "/" + contractSandbox + "/..",
		dir + "/" + contractSandbox + "/folder/file", dir + "//" + contractSandbox + "/file", dir + "/./file", dir + "x/" + contractSandbox + "/file",
		dir + "/" + contractSandbox + "/.hidden", dir + "/" + contractSandbox + "/a\x00b",
	} {
		d.Path = path
		for method, err := range map[string]error{
			"CreateRoot":  h.Disks.CreateRoot(t.Context(), d),
			"GrowRoot":    h.Disks.GrowRoot(t.Context(), d),
			"WriteSeed":   h.Disks.WriteSeed(t.Context(), path, []byte("x")),
			"CreateSpool": h.Disks.CreateSpool(t.Context(), path),
			"RemoveFile":  h.Disks.RemoveFile(t.Context(), path),
		} {
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("%s(%q): got %v, want InvalidArgument", method, path, err)
			}
		}
	}
	wantSandboxes(t, h)
}

func sandboxNamesAreChecked(t *testing.T, h DisksHost) {
	t.Helper()
	noError(t, h.Disks.WriteSeed(t.Context(), h.Paths.Seed(contractSandbox), []byte("x")))
	for _, id := range []string{"", ".", "..", "a/b", "../" + contractSandbox, "/", contractSandbox + "/"} {
		_, usageErr := h.Disks.Usage(t.Context(), id)
		_, diskErr := h.Disks.DiskUsage(t.Context(), id)
		for method, err := range map[string]error{
			"RemoveSandbox": h.Disks.RemoveSandbox(t.Context(), id), "Usage": usageErr,
			"RemoveDisk": h.Disks.RemoveDisk(t.Context(), id), "DiskUsage": diskErr,
		} {
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("%s(%q): got %v, want InvalidArgument", method, id, err)
			}
		}
	}
	wantSandboxes(t, h, contractSandbox)
}

func disksAtOnce(t *testing.T, h DisksHost) {
	t.Helper()
	same := h.rootDisk(t, contractSandbox, "main", 4*vm.MiB)
	var all sync.WaitGroup
	errs := make(chan error, 32)
	for i := range 4 {
		other := h.rootDisk(t, fmt.Sprintf("%032x", i), "main", 4*vm.MiB)
		all.Go(func() { errs <- h.Disks.CreateRoot(t.Context(), same) })
		all.Go(func() { errs <- h.Disks.CreateRoot(t.Context(), other) })
		all.Go(func() { errs <- h.Disks.WriteSeed(t.Context(), h.Paths.Seed(contractSandbox), []byte("x")) })
		all.Go(func() { errs <- h.Disks.RemoveSandbox(t.Context(), otherSandbox) })
	}
	all.Wait()
	close(errs)
	for err := range errs {
		noError(t, err)
	}
	ids, err := h.Disks.List(t.Context())
	noError(t, err)
	if len(ids) != 5 {
		t.Errorf("%d sandboxes, want 5", len(ids))
	}
}

func endedContextMakesNothing(t *testing.T, h DisksHost) {
	t.Helper()
	ended, end := context.WithCancel(t.Context())
	end()
	d := h.rootDisk(t, contractSandbox, "main", 4*vm.MiB)
	if err := h.Disks.CreateRoot(ended, d); !errdefs.IsCanceled(err) {
		t.Errorf("got %v, want Canceled", err)
	}
	if h.Exists(t, d.Path) {
		t.Error("it was made")
	}
	noError(t, h.Disks.CreateRoot(t.Context(), d))
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func usageOf(t *testing.T, h DisksHost) vm.FSUsage {
	t.Helper()
	u, err := h.Disks.Usage(t.Context(), contractSandbox)
	noError(t, err)
	return u
}

func wantSandboxes(t *testing.T, h DisksHost, want ...string) {
	t.Helper()
	got, err := h.Disks.List(t.Context())
	noError(t, err)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("sandboxes %v, want %v", got, want)
	}
}
