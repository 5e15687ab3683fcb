// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
	"github.com/vmlet/vmlet/tests/harness"
)

// operated is a VM with so much in its memory that a snapshot of it takes its time.
type operated struct{ snapshotted }

// begin begins to take a snapshot with memory.
func (o operated) begin(name string) *vmletv1.Operation {
	o.t.Helper()
	resp, err := o.node.VMs.CreateSnapshot(o.ctx(), &vmletv1.CreateSnapshotRequest{Vm: o.SandboxID, Name: name, Memory: true, Detach: true})
	if err != nil {
		o.t.Fatal(err)
	}
	return resp.GetOperation()
}

// watch tells an operation as it goes until it has ended, or seen has had enough.
func (o operated) watch(id string, seen func(*vmletv1.Operation) (enough bool)) *vmletv1.Operation {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(o.t.Context(), 2*time.Minute)
	defer cancel()
	stream, err := o.node.VMs.WatchOperation(ctx, &vmletv1.WatchOperationRequest{Id: id})
	if err != nil {
		o.t.Fatal(err)
	}
	var last *vmletv1.Operation
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return last
		}
		if err != nil {
			o.t.Fatal(err)
		}
		if last = m.GetOperation(); seen != nil && seen(last) {
			return last
		}
	}
}

// saving waits until libvirt writes the memory.
func (o operated) saving(id string) {
	o.t.Helper()
	o.watch(id, func(now *vmletv1.Operation) bool { return now.GetTotalBytes() > 0 })
}

func (o operated) is(op *vmletv1.Operation, want vmletv1.OperationState) {
	o.t.Helper()
	if op.GetState() != want {
		o.t.Errorf("%s %s is %s: %s", op.GetKind(), op.GetSubject(), op.GetState(), op.GetError())
	}
}

// job is what libvirt does to the domain.
func (o operated) job() string {
	o.t.Helper()
	return strings.Join(strings.Fields(harness.Virsh(o.t, "domjobinfo", o.DomainName())), " ")
}

// memories are the files with memory that are there.
func (o operated) memories() (names []string) {
	for _, name := range o.node.SandboxFiles(o.SandboxID) {
		if strings.HasPrefix(name, "memory-") {
			names = append(names, name)
		}
	}
	return names
}

// TestOperationsOnAGuest: a snapshot of much memory tells how far it is, can be cancelled and leaves nothing then, and is taken
// to its end though vmlet is killed in the middle. The guest runs on in the same boot throughout.
func TestOperationsOnAGuest(t *testing.T) {
	node := harness.StartNode(t)
	pod := node.Run(harness.Pod{Name: "operations", Resources: &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 1 << 30}})
	boot := pod.WaitReady()
	node.SlowSaves(t)
	o := operated{snapshotted{pod, t, node}}
	o.write("before")
	o.Exec("sh", "-c", `mkdir -p /fill && mount -t tmpfs -o size=90% none /fill && tr '\0' x </dev/zero | head -c 8388608 >/fill/8
		i=0; while [ $i -lt 60 ]; do cat /fill/8; i=$((i+1)); done >/fill/all`)
	sum := func() string { return o.Exec("sh", "-c", "md5sum /fill/8; ls -l /fill/all") }
	filled := sum()
	if !strings.Contains(filled, "503316480") {
		t.Fatalf("its memory has %q", filled)
	}

	t.Run("tells how far it is", func(t *testing.T) {
		begun := time.Now()
		op := o.begin("told")
		o.is(op, vmletv1.OperationState_OPERATION_STATE_RUNNING)
		if took := time.Since(begun); took > 20*time.Second {
			t.Errorf("it was waited for: %s", took)
		}
		var looks []string
		part := false
		end := o.watch(op.GetId(), func(now *vmletv1.Operation) bool {
			looks = append(looks, fmt.Sprintf("%d/%d", now.GetDoneBytes()>>20, now.GetTotalBytes()>>20))
			part = part || now.GetDoneBytes() > 0 && now.GetDoneBytes() < now.GetTotalBytes() && now.GetCancellable()
			return false
		})
		o.is(end, vmletv1.OperationState_OPERATION_STATE_SUCCEEDED)
		t.Logf("%s, in MiB: %s", time.Duration(end.GetEndedAt()-end.GetStartedAt()), looks)
		if !part {
			t.Errorf("it was told as %v", looks)
		}
	})

	t.Run("cancelled", func(t *testing.T) {
		files := o.memories()
		op := o.begin("gone")
		o.saving(op.GetId())
		if _, err := node.VMs.Pause(t.Context(), &vmletv1.PauseRequest{Vm: o.SandboxID}); status.Code(err) != codes.Unavailable {
			t.Errorf("pause meanwhile: %v", err)
		}
		end, err := node.VMs.CancelOperation(o.ctx(), &vmletv1.CancelOperationRequest{Vm: o.SandboxID, Id: op.GetId()})
		if err != nil {
			t.Fatal(err)
		}
		o.is(end.GetOperation(), vmletv1.OperationState_OPERATION_STATE_CANCELLED)
		if names := o.names(); !slices.Equal(names, []string{"told"}) {
			t.Errorf("snapshots: %v", names)
		}
		if now := o.memories(); !slices.Equal(now, files) {
			t.Errorf("files %v, were %v", now, files)
		}
		if job := o.job(); job != "Job type: None" {
			t.Errorf("libvirt is at %s", job)
		}
		if state := strings.TrimSpace(harness.Virsh(t, "domstate", o.DomainName())); state != "running" {
			t.Errorf("the domain is %s", state)
		}
		if now := o.BootID(); now != boot {
			t.Errorf("boot %s, was %s", now, boot)
		}
		o.holds("before")
		_, err = node.VMs.CancelOperation(o.ctx(), &vmletv1.CancelOperationRequest{Id: op.GetId()})
		if err != nil {
			t.Errorf("once more: %v", err)
		}
	})

	t.Run("outlives vmlet", func(t *testing.T) {
		var op *vmletv1.Operation
		for i := range 5 { // the machine may be so fast that it is over before vmlet is killed
			op = o.begin(fmt.Sprint("outlives-", i))
			o.saving(op.GetId())
			node.Kill9()
			job := o.job()
			node.Start()
			t.Logf("libvirt was at %s", job)
			if job != "Job type: None" {
				break
			}
			o.is(o.watch(op.GetId(), nil), vmletv1.OperationState_OPERATION_STATE_SUCCEEDED)
		}
		o.is(o.watch(op.GetId(), nil), vmletv1.OperationState_OPERATION_STATE_SUCCEEDED)
		o.write("after")
		o.mustRestore(op.GetSubject())
		if now := o.BootID(); now != boot {
			t.Errorf("boot %s, was %s", now, boot)
		}
		o.holds("before")
		if got := sum(); got != filled {
			t.Errorf("its memory has %q, had %q", got, filled)
		}
	})

	t.Run("ends with the service", func(t *testing.T) { // a restart waits neither for libvirt nor for its merges
		op := o.begin("stopped")
		o.saving(op.GetId())
		begun := time.Now()
		node.Stop()
		t.Logf("vmlet took %s to stop", time.Since(begun))
		node.Start()
		o.is(o.watch(op.GetId(), nil), vmletv1.OperationState_OPERATION_STATE_SUCCEEDED)
	})

	for _, name := range o.names() {
		resp, err := node.VMs.DeleteSnapshot(o.ctx(), &vmletv1.DeleteSnapshotRequest{Vm: o.SandboxID, Name: name, Detach: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := node.VMs.CancelOperation(o.ctx(), &vmletv1.CancelOperationRequest{Id: resp.GetOperation().GetId()}); status.Code(err) != codes.FailedPrecondition {
			t.Errorf("cancel of a deletion: %v", err)
		}
		o.is(o.watch(resp.GetOperation().GetId(), nil), vmletv1.OperationState_OPERATION_STATE_SUCCEEDED)
	}
	o.holds("before")
	o.only()
	all, err := node.VMs.ListOperations(t.Context(), &vmletv1.ListOperationsRequest{Vm: "test/operations"})
	if err != nil || len(all.GetOperations()) == 0 {
		t.Errorf("%v, %v", all, err)
	}
	for _, op := range all.GetOperations() {
		if op.GetState() == vmletv1.OperationState_OPERATION_STATE_RUNNING {
			t.Errorf("still running: %v", op)
		}
	}
}
