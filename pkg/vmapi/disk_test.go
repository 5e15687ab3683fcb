// SPDX-License-Identifier: Apache-2.0

package vmapi_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/vmlet/vmlet/pkg/vm"
	"github.com/vmlet/vmlet/pkg/vmapi"
	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// disks is what a test makes of the use cases.
type disks struct {
	all    []vm.HeldDisk
	remove func(name string) error
}

func (d disks) Disks(context.Context) ([]vm.HeldDisk, error) { return d.all, nil }

func (d disks) RemoveDisk(_ context.Context, name string) error { return d.remove(name) }

func TestDisksAreToldWhole(t *testing.T) {
	made := time.Unix(1700000000, 42)
	client := vmletv1.NewDiskServiceClient(connect(t, vmapi.Deps{Disks: disks{all: []vm.HeldDisk{
		{
			PersistentDisk: vm.PersistentDisk{
				ID: "d1", Key: vm.DiskKey{Namespace: "shop", Claim: "data", Container: "vm"}, CreatedAt: made,
				Disk: vm.Disk{Container: "vm", ImageID: "sha256:1", Path: "/disks/d1/root.qcow2", Size: 4096},
			},
			Holder: &vm.Sandbox{ID: "sb", Spec: vm.SandboxSpec{Namespace: "shop", Name: "db", UID: "uid"}},
			Used:   512,
			Snapshots: []vm.SnapshotInfo{{
				Snapshot:  vm.Snapshot{Name: "s", State: vm.SnapshotReady, CreatedAt: made, Consistency: vm.ConsistencyCrash, MemoryGone: true},
				SandboxID: "sb", Used: 256,
			}},
			Layers: []vm.DiskLayer{{Path: "/disks/d1/root.qcow2", Format: vm.FormatQCOW2, Allocated: 7}, {Path: "/image", Format: vm.FormatRaw, Shared: true}},
		},
		{
			PersistentDisk: vm.PersistentDisk{
				Key: vm.DiskKey{Namespace: "shop", PodUID: "uid", Container: "init"}, CreatedAt: made,
				Status: vm.PersistentDiskStatus{Holder: "gone", Removing: true},
			},
		},
	}}}))
	got, err := client.ListDisks(t.Context(), &vmletv1.ListDisksRequest{})
	if err != nil {
		t.Fatal(err)
	}
	want := &vmletv1.ListDisksResponse{Disks: []*vmletv1.Disk{
		{
			Name: "claim/shop/data/vm", Namespace: "shop", Claim: "data", Container: "vm", ImageId: "sha256:1",
			SizeBytes: 4096, UsedBytes: 512, Path: "/disks/d1/root.qcow2", CreatedAt: 1700000000000000042,
			Holder: &vmletv1.DiskHolder{PodSandboxId: "sb", Namespace: "shop", Name: "db"},
			Snapshots: []*vmletv1.Snapshot{{
				Name: "s", PodSandboxId: "sb", State: vmletv1.SnapshotState_SNAPSHOT_STATE_READY, CreatedAt: 1700000000000000042,
				Consistency: vmletv1.SnapshotConsistency_SNAPSHOT_CONSISTENCY_CRASH, MemoryGone: true, DiskUsedBytes: 256,
			}},
			Layers: []*vmletv1.DiskLayer{
				{Path: "/disks/d1/root.qcow2", Format: vmletv1.DiskFormat_DISK_FORMAT_QCOW2, AllocatedBytes: 7},
				{Path: "/image", Format: vmletv1.DiskFormat_DISK_FORMAT_RAW, Shared: true},
			},
		},
		{Name: "pod/shop/uid/init", Namespace: "shop", PodUid: "uid", Container: "init", CreatedAt: 1700000000000000042, Removing: true},
	}}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

func TestADiskIsRemovedByItsName(t *testing.T) {
	var removed []string
	client := vmletv1.NewDiskServiceClient(connect(t, vmapi.Deps{Disks: disks{remove: func(name string) error {
		removed = append(removed, name)
		if name == "busy" {
			return fmt.Errorf("remove disk busy: %w", errdefs.ErrFailedPrecondition)
		}
		return nil
	}}}))
	for name, want := range map[string]codes.Code{"": codes.InvalidArgument, "busy": codes.FailedPrecondition, "idle": codes.OK} {
		if _, err := client.RemoveDisk(t.Context(), &vmletv1.RemoveDiskRequest{Name: name}); status.Code(err) != want {
			t.Errorf("%q: %v, want %s", name, err, want)
		}
	}
	if len(removed) != 2 {
		t.Errorf("asked to remove %q", removed)
	}
}
