// SPDX-License-Identifier: Apache-2.0

package vmapi_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/vmlet/vmlet/pkg/vm"
	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

var snapshotTaken = vm.SnapshotInfo{
	Snapshot: vm.Snapshot{
		ID: "1", Name: "a", Description: "why", State: vm.SnapshotReady, CreatedAt: time.Unix(5, 6), ContainerID: "c",
		Consistency: vm.ConsistencyMemory, Paused: 12 * time.Millisecond,
		Memory: &vm.SnapshotMemory{Size: 7}, Disk: vm.SnapshotDisk{Size: 8},
		DataDisks: []vm.SnapshotPart{{Name: "data", Size: 10}}, LeftOut: []string{"raw"},
	},
	SandboxID: "s", ParentName: "p", Current: true, Used: 9,
}

var snapshotTold = &vmletv1.Snapshot{
	Name: "a", PodSandboxId: "s", Description: "why", State: vmletv1.SnapshotState_SNAPSHOT_STATE_READY, CreatedAt: 5e9 + 6,
	Parent: "p", Current: true, ContainerId: "c", Consistency: vmletv1.SnapshotConsistency_SNAPSHOT_CONSISTENCY_MEMORY,
	PauseMs: 12, Memory: true, MemoryBytes: 7, DiskSizeBytes: 8, DiskUsedBytes: 9,
	DataDisks: []*vmletv1.SnapshotDataDisk{{Name: "data", SizeBytes: 10}}, LeftOut: []string{"raw"},
}

func (v vms) CreateSnapshot(_ context.Context, ref string, req vm.SnapshotRequest) (vm.SnapshotInfo, error) {
	*v.asked = append(*v.asked, "snapshot "+ref+" "+req.Name+" "+req.Description)
	return snapshotTaken, nil
}

func (vms) Snapshots(context.Context, string) ([]vm.SnapshotInfo, error) {
	return []vm.SnapshotInfo{snapshotTaken}, nil
}

func (v vms) Snapshot(_ context.Context, ref, name string) (vm.SnapshotInfo, error) {
	*v.asked = append(*v.asked, "get "+ref+" "+name)
	return snapshotTaken, nil
}

func (v vms) RestoreSnapshot(_ context.Context, ref string, req vm.RestoreRequest) error {
	*v.asked = append(*v.asked, "restore "+ref+" "+req.Name)
	return nil
}

func (v vms) DeleteSnapshot(_ context.Context, ref, name string) error {
	*v.asked = append(*v.asked, "delete "+ref+" "+name)
	return nil
}

func TestSnapshotsAreTold(t *testing.T) {
	client, v := vmClient(t)
	created, err := client.CreateSnapshot(t.Context(), &vmletv1.CreateSnapshotRequest{Vm: "shop/db", Name: "a", Description: "why", Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	listed, err := client.ListSnapshots(t.Context(), &vmletv1.ListSnapshotsRequest{Vm: "shop/db"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := client.GetSnapshot(t.Context(), &vmletv1.GetSnapshotRequest{Vm: "shop/db", Name: "a"})
	if err != nil {
		t.Fatal(err)
	}
	for _, snap := range append(listed.GetSnapshots(), created.GetSnapshot(), got.GetSnapshot()) {
		if diff := cmp.Diff(snapshotTold, snap, protocmp.Transform()); diff != "" {
			t.Error(diff)
		}
	}
	if _, err := client.RestoreSnapshot(t.Context(), &vmletv1.RestoreSnapshotRequest{Vm: "shop/db", Name: "a"}); err != nil {
		t.Error(err)
	}
	if _, err := client.DeleteSnapshot(t.Context(), &vmletv1.DeleteSnapshotRequest{Vm: "shop/db", Name: "a"}); err != nil {
		t.Error(err)
	}
	want := []string{"snapshot shop/db a why", "get shop/db a", "restore shop/db a", "delete shop/db a"}
	if diff := cmp.Diff(want, *v.asked); diff != "" {
		t.Error(diff)
	}
}

func TestSnapshotsAreNamed(t *testing.T) {
	client, _ := vmClient(t)
	for _, name := range []string{"", "a b", "../a", strings.Repeat("a", 65), "ä"} {
		for call, err := range map[string]error{
			"create":  second(client.CreateSnapshot(t.Context(), &vmletv1.CreateSnapshotRequest{Vm: "v", Name: name})),
			"get":     second(client.GetSnapshot(t.Context(), &vmletv1.GetSnapshotRequest{Vm: "v", Name: name})),
			"restore": second(client.RestoreSnapshot(t.Context(), &vmletv1.RestoreSnapshotRequest{Vm: "v", Name: name})),
			"delete":  second(client.DeleteSnapshot(t.Context(), &vmletv1.DeleteSnapshotRequest{Vm: "v", Name: name})),
		} {
			if status.Code(err) != codes.InvalidArgument {
				t.Errorf("%s %q: %v", call, name, err)
			}
		}
	}
	_, err := client.CreateSnapshot(t.Context(), &vmletv1.CreateSnapshotRequest{Vm: "v", Name: "a", Description: strings.Repeat("x", 1025)})
	if status.Code(err) != codes.InvalidArgument {
		t.Error(err)
	}
}

func second[T any](_ T, err error) error { return err }
