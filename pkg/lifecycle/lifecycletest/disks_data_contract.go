// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"testing"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

func dataDiskIsMade(t *testing.T, h DisksHost) {
	t.Helper()
	path := h.Paths.DataDisk(contractSandbox, "d1")
	for range 2 {
		noError(t, h.Disks.CreateData(t.Context(), path, 3*vm.MiB))
		h.Mark(t, path)
	}
	if !h.Marked(t, path) {
		t.Error("it was made over what was on it")
	}
	if size := h.Size(t, path); size != 3*vm.MiB {
		t.Errorf("it has %d bytes", size)
	}
	noError(t, h.Disks.GrowRoot(t.Context(), vm.Disk{Path: path, Size: 5 * vm.MiB}))
	if size := h.Size(t, path); size != 5*vm.MiB || !h.Marked(t, path) {
		t.Errorf("grown it has %d bytes, and what was on it: %v", size, h.Marked(t, path))
	}
	if u := usageOf(t, h); u.UsedBytes == 0 {
		t.Errorf("it takes nothing: %+v", u)
	}
	noError(t, h.Disks.RemoveSandbox(t.Context(), contractSandbox))
	if h.Exists(t, path) {
		t.Error("it is still there")
	}
}

func dataDiskIsLookedAt(t *testing.T, h DisksHost) {
	t.Helper()
	path := h.Paths.DataDisk(contractSandbox, "d1")
	if _, err := h.Disks.Inspect(t.Context(), path, vm.FormatQCOW2); !errdefs.IsNotFound(err) {
		t.Errorf("without a file: %v, want NotFound", err)
	}
	noError(t, h.Disks.CreateData(t.Context(), path, 3*vm.MiB))
	found, err := h.Disks.Inspect(t.Context(), path, vm.FormatQCOW2)
	noError(t, err)
	if found.Size != 3*vm.MiB || found.Allocated == 0 || found.Block {
		t.Errorf("got %+v", found)
	}
	if _, err := h.Disks.Inspect(t.Context(), "/etc/hostname", vm.FormatRaw); !errdefs.IsInvalidArgument(err) {
		t.Errorf("what is not ours: %v, want InvalidArgument", err)
	}
	if _, err := h.Disks.Source(t.Context(), "/nowhere/at/all", vm.FormatRaw, false); err == nil {
		t.Error("a caller's path that nobody allowed was accepted")
	}
}
