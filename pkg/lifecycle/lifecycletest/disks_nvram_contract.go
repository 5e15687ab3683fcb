// SPDX-License-Identifier: Apache-2.0

//nolint:thelper // these are the tests themselves: a failure is where it is found
package lifecycletest

import (
	"testing"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/paths"
)

// aFileIsCopied whole, in place of an older copy, and is its own from then on.
func aFileIsCopied(t *testing.T, h DisksHost) {
	ctx := t.Context()
	from, to := paths.NVRAM(h.Paths.FreshDisk(contractSandbox, "one")), paths.NVRAM(h.Paths.FreshDisk(contractSandbox, "two"))
	same := func(want bool) {
		t.Helper()
		if is, err := h.Disks.SameFiles(ctx, from, to); err != nil || is != want {
			t.Errorf("the same: %v, %v", is, err)
		}
	}
	same(true) // neither is there
	noError(t, h.Disks.CreateSpool(ctx, from))
	same(false)
	for range 2 {
		noError(t, h.Disks.CopyFile(ctx, from, to))
		same(true)
	}
	h.Mark(t, from)
	same(false)
	if h.Marked(t, to) {
		t.Error("the copy has changed, too")
	}
	noError(t, h.Disks.CopyFile(ctx, from, to))
	same(true)
	noError(t, h.Disks.RemoveFile(ctx, from))
	same(false)
	noError(t, h.Disks.CopyFile(ctx, from, to))
	if h.Exists(t, to) {
		t.Error("there is a copy of what is not there")
	}
}

func copiesElsewhereAreRefused(t *testing.T, h DisksHost) {
	ctx := t.Context()
	from := paths.NVRAM(h.Paths.FreshDisk(contractSandbox, "one"))
	noError(t, h.Disks.CreateSpool(ctx, from))
	_, same := h.Disks.SameFiles(ctx, from, "/etc/passwd")
	for what, err := range map[string]error{
		"from": h.Disks.CopyFile(ctx, "/etc/passwd", from), "to": h.Disks.CopyFile(ctx, from, "/etc/passwd"), "same": same,
	} {
		if !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s elsewhere: %v", what, err)
		}
	}
}
