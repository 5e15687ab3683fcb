// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"testing"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

type layers struct {
	image               vm.BackingFile
	bottom, middle, top vm.Disk
}

// layered makes image <- bottom <- middle <- top, each with something of its own, and something that the next one hides.
func layered(t *testing.T, h DisksHost) layers {
	t.Helper()
	bottom := h.rootDisk(t, contractSandbox, "main", 4*vm.MiB)
	image := vm.BackingFile{Path: bottom.Backing, Format: bottom.BackingFormat}
	noError(t, h.Disks.CreateRoot(t.Context(), bottom))
	on := func(below vm.Disk, id string) vm.Disk {
		d := below
		d.Path, d.Backing, d.BackingFormat = h.Paths.LayeredDisk(contractSandbox, id), below.Path, vm.FormatQCOW2
		noError(t, h.Disks.CreateRoot(t.Context(), d))
		return d
	}
	h.Put(t, bottom.Path, 0, 'a')
	h.Put(t, bottom.Path, 1, 'a')
	middle := on(bottom, "middle")
	h.Put(t, middle.Path, 1, 'b')
	h.Put(t, middle.Path, 2, 'b')
	top := on(middle, "top")
	h.Put(t, top.Path, 2, 'c')
	return layers{image, bottom, middle, top}
}

func (h DisksHost) holds(t *testing.T, path, want string) {
	t.Helper()
	for i, c := range []byte(want) {
		if got := h.Get(t, path, i); got != c {
			t.Errorf("block %d of %s has %q, want %q", i, path, got, c)
		}
	}
}

func layersArePulled(t *testing.T, h DisksHost) {
	t.Helper()
	l := layered(t, h)
	image, bottom, middle, top := l.image, l.bottom, l.middle, l.top
	h.holds(t, top.Path, "abc")
	for range 2 {
		noError(t, h.Disks.PullFile(t.Context(), middle.Path, image))
		h.holds(t, middle.Path, "abb")
		h.holds(t, top.Path, "abc")
	}
	noError(t, h.Disks.RemoveFile(t.Context(), bottom.Path))
	h.holds(t, top.Path, "abc")
	noError(t, h.Disks.PullFile(t.Context(), top.Path, image))
	noError(t, h.Disks.RemoveFile(t.Context(), middle.Path))
	h.holds(t, top.Path, "abc")
}

func aBaseIsSet(t *testing.T, h DisksHost) {
	t.Helper()
	l := layered(t, h)
	bottom, top := l.bottom, l.top
	for range 2 {
		noError(t, h.Disks.SetBase(t.Context(), top.Path, vm.BackingFile{Path: bottom.Path, Format: vm.FormatQCOW2}))
		h.holds(t, top.Path, "aac")
	}
}

func layersAreThereOrNot(t *testing.T, h DisksHost) {
	t.Helper()
	l := layered(t, h)
	image, top := l.image, l.top
	gone := h.Paths.LayeredDisk(contractSandbox, "gone")
	noError(t, h.Disks.HandOver(t.Context(), top.Path))
	for what, err := range map[string]error{
		"HandOver": h.Disks.HandOver(t.Context(), gone), "PullFile": h.Disks.PullFile(t.Context(), gone, image),
		"SetBase": h.Disks.SetBase(t.Context(), gone, image),
	} {
		if !errdefs.IsNotFound(err) {
			t.Errorf("%s of a file that is not there: %v", what, err)
		}
	}
	for path, want := range map[string]uint64{top.Path: 1, gone: 0} {
		u, err := h.Disks.FileUsage(t.Context(), path)
		if err != nil || u.UsedInodes != want || (u.UsedBytes > 0) != (want > 0) {
			t.Errorf("usage of %s: %+v, %v", path, u, err)
		}
	}
	if _, err := h.Disks.FileUsage(t.Context(), "/etc/passwd"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("usage of a file elsewhere: %v", err)
	}
}
