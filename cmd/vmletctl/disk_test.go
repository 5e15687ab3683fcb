// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

func (w *world) addDisks() {
	ago := func(d time.Duration) int64 { return clock.Add(-d).UnixNano() }
	w.persistent = []*vmletv1.Disk{
		{
			Name: "claim/shop/data/vm", Namespace: "shop", Claim: "data", Container: "vm", ImageId: pulledID, SizeBytes: 20 << 30,
			UsedBytes: 700 << 20, Path: "/var/lib/vmlet/disks/d1/root.qcow2", CreatedAt: ago(72 * time.Hour),
			Holder:    &vmletv1.DiskHolder{PodSandboxId: dbID, Namespace: "shop", Name: "db"},
			Snapshots: []*vmletv1.Snapshot{testSnapshot("first"), {Name: "second", MemoryGone: true}},
			Layers: []*vmletv1.DiskLayer{
				{Path: "/var/lib/vmlet/disks/d1/root-layer-2.qcow2", Format: vmletv1.DiskFormat_DISK_FORMAT_QCOW2, AllocatedBytes: 200 << 20},
				{Path: "/var/lib/vmlet/disks/d1/root.qcow2", Format: vmletv1.DiskFormat_DISK_FORMAT_QCOW2, AllocatedBytes: 500 << 20},
				{Path: "/var/lib/vmlet/images/a11ce", Format: vmletv1.DiskFormat_DISK_FORMAT_QCOW2, AllocatedBytes: 1 << 30, Shared: true},
			},
		},
		{
			Name: "pod/default/uid-web/vm", Namespace: "default", PodUid: "uid-web", Container: "vm", ImageId: pulledID, SizeBytes: 1 << 30,
			UsedBytes: 200 << 10, Path: "/var/lib/vmlet/disks/d2/root.qcow2", CreatedAt: ago(5 * time.Minute),
		},
		{
			Name: "pod/default/uid-old/vm", Namespace: "default", PodUid: "uid-old", Container: "vm", ImageId: pulledID, SizeBytes: 1 << 30,
			Path: "/var/lib/vmlet/disks/d3/root.qcow2", CreatedAt: ago(time.Minute), Removing: true,
		},
	}
}

func TestDiskLs(t *testing.T) {
	w := newWorld(t)
	w.addDisks()
	for file, args := range map[string][]string{
		"disk-ls.txt":  {"disk", "ls"},
		"disk-ls.json": {"disk", "ls", "-o", "json"},
		"disk-ls.yaml": {"disk", "ls", "-o", "yaml"},
	} {
		got := w.ctl(t, args...)
		got.wantOK(t)
		golden(t, file, got.stdout)
	}
}

func TestDiskRm(t *testing.T) {
	w := newWorld(t)
	w.addDisks()
	got := w.ctl(t, "disk", "rm", "pod/default/uid-web/vm", "moon")
	got.wantError(t, exitFailed, `no disk "moon"`)
	if got.stdout != "pod/default/uid-web/vm\n" {
		t.Errorf("got %q", got.stdout)
	}
	if calls := w.called(); !slices.Equal(calls, []string{"RemoveDisk pod/default/uid-web/vm"}) {
		t.Errorf("called %q", calls)
	}
}

func TestDiskRmOfADiskInUse(t *testing.T) {
	w := newWorld(t)
	w.fail("RemoveDisk", codes.FailedPrecondition, "remove disk claim/shop/data/vm: it is in use by sandbox 2222 (pod shop/db)")
	w.ctl(t, "disk", "rm", "claim/shop/data/vm").wantError(t, exitFailed, "in use by sandbox 2222")
	w.ctl(t, "disk", "rm").wantError(t, exitUsage, "vmletctl disk rm --help")
	w.ctl(t, "disk", "remove").wantError(t, exitUsage, `unknown command "remove"`)
}
