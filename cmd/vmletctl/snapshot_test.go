// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

func testSnapshot(name string) *vmletv1.Snapshot {
	return &vmletv1.Snapshot{
		Name: name, PodSandboxId: webID, State: vmletv1.SnapshotState_SNAPSHOT_STATE_READY, CreatedAt: clock.Add(-time.Hour).UnixNano(),
		Consistency: vmletv1.SnapshotConsistency_SNAPSHOT_CONSISTENCY_CRASH, DiskSizeBytes: 1 << 30, DiskUsedBytes: 3 << 20,
	}
}

// CreateSnapshot implements vmletv1.VMServiceServer.
func (v vms) CreateSnapshot(_ context.Context, req *vmletv1.CreateSnapshotRequest) (*vmletv1.CreateSnapshotResponse, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	quiesced := map[bool]string{true: "quiesced"}[req.GetQuiesce()]
	v.note("CreateSnapshot %s %s %q memory=%t %s", req.GetVm(), req.GetName(), req.GetDescription(), req.GetMemory(), quiesced)
	if req.GetDetach() && v.operations != nil {
		return &vmletv1.CreateSnapshotResponse{Operation: v.operations[0]}, nil
	}
	snap := testSnapshot(req.GetName())
	snap.Current, snap.Description = true, req.GetDescription()
	if req.GetMemory() {
		snap.Memory, snap.MemoryBytes, snap.PauseMs = true, 100<<20, 250
		snap.Consistency = vmletv1.SnapshotConsistency_SNAPSHOT_CONSISTENCY_MEMORY
	}
	return &vmletv1.CreateSnapshotResponse{Snapshot: snap}, nil
}

// ListSnapshots implements vmletv1.VMServiceServer.
func (vms) ListSnapshots(context.Context, *vmletv1.ListSnapshotsRequest) (*vmletv1.ListSnapshotsResponse, error) {
	second := testSnapshot("second")
	second.DataDisks = []*vmletv1.SnapshotDataDisk{{Name: "data", SizeBytes: 1 << 20}, {Name: "logs", SizeBytes: 2 << 20}}
	second.LeftOut = []string{"raw"}
	second.Parent, second.Current, second.State = "first", true, vmletv1.SnapshotState_SNAPSHOT_STATE_DELETING
	return &vmletv1.ListSnapshotsResponse{Snapshots: []*vmletv1.Snapshot{testSnapshot("first"), second}}, nil
}

// GetSnapshot implements vmletv1.VMServiceServer.
func (vms) GetSnapshot(_ context.Context, req *vmletv1.GetSnapshotRequest) (*vmletv1.GetSnapshotResponse, error) {
	snap := testSnapshot(req.GetName())
	snap.ContainerId, snap.Memory, snap.MemoryBytes = "c1", true, 100<<20
	return &vmletv1.GetSnapshotResponse{Snapshot: snap}, nil
}

// RestoreSnapshot implements vmletv1.VMServiceServer.
func (v vms) RestoreSnapshot(_ context.Context, req *vmletv1.RestoreSnapshotRequest) (*vmletv1.RestoreSnapshotResponse, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.note("RestoreSnapshot %s %s paused=%t disk=%t", req.GetVm(), req.GetName(), req.GetPaused(), req.GetDiskOnly())
	if req.GetDetach() && v.operations != nil {
		return &vmletv1.RestoreSnapshotResponse{Operation: v.operations[0]}, nil
	}
	return &vmletv1.RestoreSnapshotResponse{}, nil
}

// DeleteSnapshot implements vmletv1.VMServiceServer.
func (v vms) DeleteSnapshot(_ context.Context, req *vmletv1.DeleteSnapshotRequest) (*vmletv1.DeleteSnapshotResponse, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.note("DeleteSnapshot %s %s", req.GetVm(), req.GetName())
	if req.GetDetach() && v.operations != nil {
		return &vmletv1.DeleteSnapshotResponse{Operation: v.operations[0]}, nil
	}
	return &vmletv1.DeleteSnapshotResponse{}, nil
}

func TestSnapshots(t *testing.T) {
	w := newWorld(t)
	w.addPods("")
	for file, args := range map[string][]string{
		"snapshot-create.txt":  {"snapshot", "create", "web", "first", "--description", "before it"},
		"snapshot-memory.json": {"snapshot", "create", "web", "first", "--memory", "-o", "json"},
		"snapshot-ls.txt":      {"snapshot", "ls", "web"},
		"snapshot-inspect.txt": {"snapshot", "inspect", "web", "first"},
	} {
		got := w.ctl(t, args...)
		got.wantOK(t)
		golden(t, file, got.stdout)
	}
	w.ctl(t, "snapshot", "restore", "web", "first").wantOK(t)
	w.ctl(t, "snapshot", "restore", "--paused", "--disk-only", "web", "first").wantOK(t)
	if got := w.ctl(t, "snapshot", "rm", "web", "first", "second"); got.stdout != "first\nsecond\n" {
		t.Errorf("got %q", got.stdout)
	}
	calls := w.called()
	for _, want := range []string{
		"CreateSnapshot " + webID + ` first "before it" memory=false`, "CreateSnapshot " + webID + ` first "" memory=true`,
		"RestoreSnapshot " + webID + " first paused=false disk=false", "RestoreSnapshot " + webID + " first paused=true disk=true",
		"DeleteSnapshot " + webID + " first", "DeleteSnapshot " + webID + " second",
	} {
		if !slices.Contains(calls, want) {
			t.Errorf("called %q, not %q", calls, want)
		}
	}
}

func TestSnapshotsThatFail(t *testing.T) {
	w := newWorld(t)
	w.addPods("")
	w.fail("CreateSnapshot", codes.AlreadyExists, "there is one of that name")
	w.ctl(t, "snapshot", "create", "web", "first").wantError(t, exitFailed, "there is one of that name")
	w.ctl(t, "snapshot", "create", "web").wantError(t, exitUsage, "vmletctl snapshot create --help")
	w.ctl(t, "snapshot", "rm", "web").wantError(t, exitUsage, "vmletctl snapshot rm --help")
	w.ctl(t, "snapshot", "restore", "moon", "first").wantError(t, exitFailed, `no pod "moon"`)
}
