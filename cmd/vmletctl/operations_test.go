// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

const operationID = "3f9a0000000000000000000000000001"

// testOperation is an operation as it goes: two looks at it, and its end.
func testOperation(end vmletv1.OperationState, failure string) []*vmletv1.Operation {
	at := func(state vmletv1.OperationState, done int64) *vmletv1.Operation {
		return &vmletv1.Operation{
			Id: operationID, Kind: "snapshot-create", Subject: "first", PodSandboxId: webID, Namespace: "default", Pod: "web",
			State: state, StartedAt: clock.Add(-time.Minute).UnixNano(), DoneBytes: done, TotalBytes: 4 << 20,
			Cancellable: state == vmletv1.OperationState_OPERATION_STATE_RUNNING,
		}
	}
	running := vmletv1.OperationState_OPERATION_STATE_RUNNING
	last := at(end, 0)
	last.TotalBytes, last.EndedAt, last.Error = 0, clock.UnixNano(), failure
	return []*vmletv1.Operation{at(running, 1<<20), at(running, 3<<20), last}
}

// ListOperations implements vmletv1.VMServiceServer.
func (v vms) ListOperations(_ context.Context, req *vmletv1.ListOperationsRequest) (*vmletv1.ListOperationsResponse, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.note("ListOperations %s", req.GetVm())
	return &vmletv1.ListOperationsResponse{Operations: v.operations}, nil
}

// WatchOperation implements vmletv1.VMServiceServer.
func (v vms) WatchOperation(req *vmletv1.WatchOperationRequest, stream grpc.ServerStreamingServer[vmletv1.WatchOperationResponse]) error {
	v.mu.Lock()
	all := v.operations
	v.mu.Unlock()
	if len(all) == 0 || !strings.HasPrefix(all[0].GetId(), req.GetId()) {
		return status.Errorf(codes.NotFound, "operation %q: not found", req.GetId())
	}
	var errs []error
	for _, o := range all {
		errs = append(errs, stream.Send(&vmletv1.WatchOperationResponse{Operation: o}))
	}
	return errors.Join(errs...)
}

// CancelOperation implements vmletv1.VMServiceServer.
func (v vms) CancelOperation(_ context.Context, req *vmletv1.CancelOperationRequest) (*vmletv1.CancelOperationResponse, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.note("CancelOperation %s", req.GetId())
	return &vmletv1.CancelOperationResponse{}, nil
}

func TestOperations(t *testing.T) {
	w := newWorld(t)
	w.addPods("")
	w.operations = testOperation(vmletv1.OperationState_OPERATION_STATE_SUCCEEDED, "")
	for file, args := range map[string][]string{
		"operations-ls.txt":     {"operations", "ls"},
		"operations-ls.json":    {"operations", "ls", "web", "-o", "json"},
		"operations-watch.txt":  {"operations", "watch", "3f9a"},
		"operations-watch.json": {"operations", "watch", "3f9a", "-o", "json"},
		"snapshot-detach.txt":   {"snapshot", "create", "web", "first", "--memory", "--detach"},
		"snapshot-waited.txt":   {"snapshot", "create", "web", "first", "--memory"},
		"snapshot-rm.txt":       {"snapshot", "rm", "web", "first", "second", "--detach"},
	} {
		got := w.ctl(t, args...)
		got.wantOK(t)
		golden(t, file, got.stdout)
	}
	got := w.ctl(t, "snapshot", "restore", "web", "first")
	got.wantOK(t)
	if got.stdout != "web\n" || got.stderr != "snapshot-create first of default/web\n" {
		t.Errorf("got %q, %q", got.stdout, got.stderr)
	}
	if got := w.ctl(t, "operations", "cancel", "3f9a", "3f9b"); got.stdout != "3f9a\n3f9b\n" {
		t.Errorf("got %q", got.stdout)
	}
	for _, want := range []string{"ListOperations", "ListOperations " + webID, "CancelOperation 3f9a", "CancelOperation 3f9b"} {
		if !slices.Contains(w.called(), want) {
			t.Errorf("called %q, not %q", w.called(), want)
		}
	}
	if got := w.completions(t, "operations", "cancel", ""); !slices.Equal(got, []string{"3f9a00000000"}) {
		t.Errorf("completed is %q", got)
	}
}

// TestOperationsThatFail: who waited for one is told so.
func TestOperationsThatFail(t *testing.T) {
	w := newWorld(t)
	w.addPods("")
	w.ctl(t, "operations", "watch", "3f9a").wantError(t, exitFailed, "not found")
	w.ctl(t, "operations", "cancel").wantError(t, exitUsage, "vmletctl operations cancel --help")
	w.operations = testOperation(vmletv1.OperationState_OPERATION_STATE_FAILED, "no such luck")
	for _, args := range [][]string{
		{"snapshot", "create", "web", "first"}, {"snapshot", "restore", "web", "first"}, {"snapshot", "rm", "web", "first"},
		{"operations", "watch", "3f9a"}, {"operations", "watch", "3f9a", "-o", "json"}, {"checkpoint", "web", "/checkpoints/web"},
	} {
		w.ctl(t, args...).wantError(t, exitFailed, "snapshot-create first of default/web: no such luck")
	}
	w.operations = testOperation(vmletv1.OperationState_OPERATION_STATE_CANCELLED, "")
	w.ctl(t, "snapshot", "create", "web", "first").wantError(t, exitFailed, "was cancelled")
	w.operations = w.operations[:2]
	w.ctl(t, "snapshot", "create", "web", "first").wantError(t, exitFailed, "vmletctl operations ls")
}

func TestABarGrowsOnATerminal(t *testing.T) {
	var out bytes.Buffer
	p := &progress{w: &out, terminal: true}
	p.bar("it", 0, 0)
	p.bar("it", 1<<20, 4<<20)
	p.bar("it", 9<<20, 4<<20)
	const erase = "\r\x1b[K"
	want := erase + "it" + erase + "[======                  ] it  1.0 MiB of 4.0 MiB  25%" + erase + "[========================] it  9.0 MiB of 4.0 MiB  100%"
	if out.String() != want {
		t.Errorf("got %q", out.String())
	}
	out.Reset()
	p = &progress{w: &out}
	p.bar("it", 1, 4)
	p.bar("it", 2, 4)
	if out.String() != "it\n" {
		t.Errorf("got %q", out.String())
	}
}
