// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

type checkpoints struct {
	vmletv1.UnimplementedCheckpointServiceServer
	*node
}

// CreateCheckpoint implements vmletv1.CheckpointServiceServer.
func (c checkpoints) CreateCheckpoint(_ context.Context, req *vmletv1.CreateCheckpointRequest) (*vmletv1.CreateCheckpointResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.note("CreateCheckpoint %s %s", req.GetVm(), req.GetPath())
	if req.GetDetach() && c.operations != nil {
		return &vmletv1.CreateCheckpointResponse{Operation: c.operations[0]}, nil
	}
	return &vmletv1.CreateCheckpointResponse{CheckpointId: "k0", PodSandboxId: req.GetVm(), DiskBytes: 3 << 20, MemoryBytes: 100 << 20, PauseMs: 250}, nil
}

// GetCheckpoint implements vmletv1.CheckpointServiceServer.
func (c checkpoints) GetCheckpoint(_ context.Context, req *vmletv1.GetCheckpointRequest) (*vmletv1.GetCheckpointResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.note("GetCheckpoint %s", req.GetPath())
	return &vmletv1.GetCheckpointResponse{
		CheckpointId: "k1", PodSandboxId: webID, PodNamespace: "default", PodName: "web",
		DiskBytes: 3 << 20, MemoryBytes: 100 << 20, PauseMs: 250, DataDisks: []string{"data"},
	}, nil
}

// RestoreCheckpoint implements vmletv1.CheckpointServiceServer.
func (c checkpoints) RestoreCheckpoint(_ context.Context, req *vmletv1.RestoreCheckpointRequest) (*vmletv1.RestoreCheckpointResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.note("RestoreCheckpoint %s", req.GetPath())
	return &vmletv1.RestoreCheckpointResponse{PodNamespace: "default", PodName: "web", PodSandboxId: webID, ContainerId: c.containers[0].status.GetId()}, nil
}

func TestCheckpoints(t *testing.T) {
	w := newWorld(t)
	w.addPods("")
	if got := w.ctl(t, "checkpoint", "web", "/checkpoints/web", "-o", "json"); !strings.Contains(got.stdout, `"id": "k0"`) {
		t.Errorf("from a vmlet that knows no operation of it: %q, %q", got.stdout, got.stderr)
	}
	w.operations = testOperation(vmletv1.OperationState_OPERATION_STATE_SUCCEEDED, "")
	for file, args := range map[string][]string{
		"checkpoint.txt":        {"checkpoint", "web", "/checkpoints/web"},
		"checkpoint.json":       {"checkpoint", "web", "/checkpoints/web", "-o", "json"},
		"checkpoint-detach.txt": {"checkpoint", "web", "/checkpoints/web", "--detach"},
	} {
		got := w.ctl(t, args...)
		got.wantOK(t)
		golden(t, file, got.stdout)
	}
	got := w.ctl(t, "restore", "--created", "/checkpoints/web")
	got.wantOK(t)
	if !strings.Contains(got.stdout, "default/web  "+webID) {
		t.Errorf("got %q", got.stdout)
	}
	calls := w.called()
	if slices.ContainsFunc(calls, func(call string) bool { return strings.HasPrefix(call, "StartContainer") }) {
		t.Errorf("called %q", calls)
	}
	for _, want := range []string{"CreateCheckpoint " + webID + " /checkpoints/web", "GetCheckpoint /checkpoints/web", "RestoreCheckpoint /checkpoints/web"} {
		if !slices.Contains(calls, want) {
			t.Errorf("called %q, not %q", calls, want)
		}
	}
}

// TestARestoredPodThatDoesNotStartIsRemoved: a second try would find it there.
func TestARestoredPodThatDoesNotStartIsRemoved(t *testing.T) {
	w := newWorld(t)
	w.addPods("")
	w.fail("StartContainer", codes.Internal, "no memory")
	w.ctl(t, "restore", "/checkpoints/web").wantError(t, exitFailed, "no memory")
	if calls := w.called(); !slices.ContainsFunc(calls, func(call string) bool { return strings.HasPrefix(call, "RemovePodSandbox "+webID[:12]) }) {
		t.Errorf("called %q", calls)
	}
	w.fail("RestoreCheckpoint", codes.AlreadyExists, "it lives")
	w.ctl(t, "restore", "/checkpoints/web").wantError(t, exitFailed, "it lives")
	w.ctl(t, "restore").wantError(t, exitUsage, "vmletctl restore --help")
	w.ctl(t, "checkpoint", "web").wantError(t, exitUsage, "vmletctl checkpoint --help")
}
