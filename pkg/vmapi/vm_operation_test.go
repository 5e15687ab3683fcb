// SPDX-License-Identifier: Apache-2.0

package vmapi_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/vmlet/vmlet/pkg/vm"
	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

var operationBegun = vm.OperationInfo{
	Operation: vm.Operation{ID: "1", Kind: vm.OperationSnapshotCreate, Subject: "a", State: vm.OperationRunning, StartedAt: time.Unix(0, 5)},
	Progress:  vm.Progress{Done: 6, Total: 7}, SandboxID: "s", Namespace: "shop", Pod: "db", Cancellable: true,
}

func operationOver() vm.OperationInfo {
	o := operationBegun
	o.State, o.EndedAt, o.Error, o.Progress, o.Cancellable = vm.OperationFailed, time.Unix(0, 8), "why", vm.Progress{}, false
	return o
}

var operationTold = []*vmletv1.Operation{
	{
		Id: "1", Kind: "snapshot-create", Subject: "a", PodSandboxId: "s", Namespace: "shop", Pod: "db",
		State: vmletv1.OperationState_OPERATION_STATE_RUNNING, StartedAt: 5, DoneBytes: 6, TotalBytes: 7, Cancellable: true,
	},
	{
		Id: "1", Kind: "snapshot-create", Subject: "a", PodSandboxId: "s", Namespace: "shop", Pod: "db",
		State: vmletv1.OperationState_OPERATION_STATE_FAILED, StartedAt: 5, EndedAt: 8, Error: "why",
	},
}

func (v vms) DetachSnapshot(_ context.Context, ref string, req vm.SnapshotRequest) (vm.OperationInfo, error) {
	*v.asked = append(*v.asked, "detach snapshot "+ref+" "+req.Name)
	return operationBegun, nil
}

func (v vms) DetachRestoreSnapshot(_ context.Context, ref string, req vm.RestoreRequest) (vm.OperationInfo, error) {
	*v.asked = append(*v.asked, "detach restore "+ref+" "+req.Name)
	return operationBegun, nil
}

func (v vms) DetachDeleteSnapshot(_ context.Context, ref, name string) (vm.OperationInfo, error) {
	*v.asked = append(*v.asked, "detach delete "+ref+" "+name)
	return operationBegun, nil
}

func (v vms) Operations(ref string) ([]vm.OperationInfo, error) {
	*v.asked = append(*v.asked, "operations "+ref)
	return []vm.OperationInfo{operationBegun, operationOver()}, nil
}

func (v vms) Operation(ref, id string) (vm.OperationInfo, error) {
	*v.asked = append(*v.asked, "operation "+ref+" "+id)
	return operationBegun, nil
}

func (v vms) WatchOperation(_ context.Context, ref, id string, send func(vm.OperationInfo) error) error {
	*v.asked = append(*v.asked, "watch operation "+ref+" "+id)
	return errors.Join(send(operationBegun), send(operationOver()))
}

func (v vms) CancelOperation(_ context.Context, ref, id string) (vm.OperationInfo, error) {
	*v.asked = append(*v.asked, "cancel "+ref+" "+id)
	return operationOver(), nil
}

func TestOperationsAreTold(t *testing.T) {
	client, v := vmClient(t)
	same := func(want *vmletv1.Operation, got *vmletv1.Operation, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Error(diff)
		}
	}
	created, err := client.CreateSnapshot(t.Context(), &vmletv1.CreateSnapshotRequest{Vm: "v", Name: "a", Detach: true})
	same(operationTold[0], created.GetOperation(), err)
	restored, err := client.RestoreSnapshot(t.Context(), &vmletv1.RestoreSnapshotRequest{Vm: "v", Name: "a", Detach: true})
	same(operationTold[0], restored.GetOperation(), err)
	deleted, err := client.DeleteSnapshot(t.Context(), &vmletv1.DeleteSnapshotRequest{Vm: "v", Name: "a", Detach: true})
	same(operationTold[0], deleted.GetOperation(), err)
	got, err := client.GetOperation(t.Context(), &vmletv1.GetOperationRequest{Vm: "v", Id: "1"})
	same(operationTold[0], got.GetOperation(), err)
	cancelled, err := client.CancelOperation(t.Context(), &vmletv1.CancelOperationRequest{Id: "1"})
	same(operationTold[1], cancelled.GetOperation(), err)
	listed, err := client.ListOperations(t.Context(), &vmletv1.ListOperationsRequest{Vm: "v"})
	for i, o := range listed.GetOperations() {
		same(operationTold[i], o, err)
	}
	stream, err := client.WatchOperation(t.Context(), &vmletv1.WatchOperationRequest{Vm: "v", Id: "1"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range operationTold {
		m, err := stream.Recv()
		same(operationTold[i], m.GetOperation(), err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	want := []string{
		"detach snapshot v a", "detach restore v a", "detach delete v a", "operation v 1", "cancel  1", "operations v", "watch operation v 1",
	}
	if diff := cmp.Diff(want, *v.asked); diff != "" || len(listed.GetOperations()) != len(operationTold) {
		t.Error(diff)
	}
}

func TestAnOperationIsNamed(t *testing.T) {
	client, _ := vmClient(t)
	stream, err := client.WatchOperation(t.Context(), &vmletv1.WatchOperationRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for call, err := range map[string]error{
		"get":    second(client.GetOperation(t.Context(), &vmletv1.GetOperationRequest{Vm: "v"})),
		"cancel": second(client.CancelOperation(t.Context(), &vmletv1.CancelOperationRequest{Vm: "v"})),
		"watch":  second(stream.Recv()),
	} {
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", call, err)
		}
	}
}
