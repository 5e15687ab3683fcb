// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
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
// to its end though vmlet is killed in the middle; so does a checkpoint, but for the kill. The guest runs on in the same boot throughout.
func TestOperationsOnAGuest(t *testing.T) {
	node := newCheckpointing(t)
	pod := node.Run(harness.Pod{Name: "operations", Resources: &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 1 << 30}})
	boot := pod.WaitReady()
	node.SlowSaves(t)
	o := operated{snapshotted{pod, t, node.Node}}
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

	t.Run("a checkpoint", func(t *testing.T) { o.checkpoints(node, boot) })

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

// checkpoints sees that a checkpoint is an operation like the others, and that nothing is left of one that is cancelled: by
// whoever wishes it, at any moment, or by the end of its caller.
func (o operated) checkpoints(node checkpointing, boot string) {
	o.t.Helper()
	service := vmletv1.NewCheckpointServiceClient(node.Conn())
	begin := func(name string) *vmletv1.Operation {
		resp, err := service.CreateCheckpoint(o.ctx(), &vmletv1.CreateCheckpointRequest{Vm: o.SandboxID, Path: filepath.Join(node.dir, name), Detach: true})
		if err != nil {
			o.t.Fatal(err)
		}
		return resp.GetOperation()
	}
	unharmed := func(how string) {
		o.t.Helper()
		if files := node.holds(); len(files) > 0 {
			o.t.Errorf("%s: left are %v", how, files)
		}
		if job := o.job(); job != "Job type: None" {
			o.t.Errorf("%s: libvirt is at %s", how, job)
		}
		if now := o.BootID(); now != boot {
			o.t.Errorf("%s: boot %s, was %s", how, now, boot)
		}
	}

	for _, moment := range []struct {
		name string
		come func(*vmletv1.Operation) bool
	}{
		{"while its memory is saved", func(now *vmletv1.Operation) bool { return now.GetTotalBytes() > 0 }},
		{"while it is copied", func(*vmletv1.Operation) bool { return len(node.holds()) > 0 }},
	} {
		op := begin("cancelled")
		if end := o.watch(op.GetId(), moment.come); end.GetState() != vmletv1.OperationState_OPERATION_STATE_RUNNING {
			o.t.Errorf("%s: it is %s: %s", moment.name, end.GetState(), end.GetError())
			continue
		}
		end, err := node.VMs.CancelOperation(o.ctx(), &vmletv1.CancelOperationRequest{Id: op.GetId()})
		if err != nil {
			o.t.Fatal(err)
		}
		o.is(end.GetOperation(), vmletv1.OperationState_OPERATION_STATE_CANCELLED)
		unharmed(moment.name)
	}

	ctx, leave := context.WithCancel(o.t.Context())
	called := make(chan error, 1)
	go func() {
		_, err := node.CheckpointPod(ctx, &runtimeapi.CheckpointPodRequest{
			PodSandboxId: o.SandboxID, OutputPath: filepath.Join(node.dir, "left"), ContainerIds: []string{o.ContainerID},
		})
		called <- err
	}()
	var left *vmletv1.Operation
	node.Eventually(time.Minute, func() error {
		all, err := node.VMs.ListOperations(o.ctx(), &vmletv1.ListOperationsRequest{Vm: o.SandboxID})
		for _, op := range all.GetOperations() {
			if strings.HasSuffix(op.GetSubject(), "/left") && op.GetTotalBytes() > 0 {
				left = op
				return nil
			}
		}
		return fmt.Errorf("%v, %w", all, err)
	})
	leave()
	if err := <-called; status.Code(err) != codes.Canceled {
		o.t.Errorf("who has left is told %v", err)
	}
	o.is(o.watch(left.GetId(), nil), vmletv1.OperationState_OPERATION_STATE_CANCELLED)
	unharmed("left by its caller")
}
