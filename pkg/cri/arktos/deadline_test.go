// SPDX-License-Identifier: Apache-2.0

package arktos_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/vmlet/vmlet/pkg/vm"
	arktosv1alpha2 "github.com/vmlet/vmlet/proto/arktos/v1alpha2"
)

// held is a port of the use cases that does not answer before it is released.
type held struct {
	calls   func() []string
	method  string
	release func()
}

// cutShort makes a call, has its caller leave once its work has come to what is held, and lets that go on.
func cutShort[Q, R proto.Message](w *world, at held, do func(context.Context, Q) (R, error), req Q) {
	w.t.Helper()
	defer at.release()
	before := len(at.calls())
	ctx, leave := context.WithCancel(w.t.Context())
	defer leave()
	ended := make(chan error, 1)
	go func() { _, err := do(ctx, req); ended <- err }()
	w.isFound("the call of "+at.method, func() bool {
		return slices.ContainsFunc(at.calls()[before:], func(c string) bool { return strings.HasPrefix(c, at.method+" ") })
	})
	leave()
	w.is(codes.Canceled, <-ended)
}

// isFound waits until what goes on without its caller is done.
func (w *world) isFound(what string, is func() bool) {
	w.t.Helper()
	for begin := time.Now(); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Since(begin) > time.Minute {
			w.t.Fatalf("%s was not found in the next list", what)
		}
	}
}

func (w *world) pods() []*arktosv1alpha2.PodSandbox {
	w.t.Helper()
	return must[*arktosv1alpha2.ListPodSandboxResponse](w.t)(w.ListPodSandbox(w.t.Context(), &arktosv1alpha2.ListPodSandboxRequest{})).GetItems()
}

func (w *world) containersIn(state arktosv1alpha2.ContainerState) []*arktosv1alpha2.Container {
	w.t.Helper()
	return must[*arktosv1alpha2.ListContainersResponse](w.t)(w.ListContainers(w.t.Context(), &arktosv1alpha2.ListContainersRequest{
		Filter: &arktosv1alpha2.ContainerFilter{State: &arktosv1alpha2.ContainerStateValue{State: state}},
	})).GetContainers()
}

// The node agent waits 15 s, whatever it asks for, and does not ask again before its next look: what it then finds is the work done.
func TestEveryCallGoesOnWhenItsDeadlineIsOver(t *testing.T) {
	w := newWorld(t)
	config := podConfig("acme")

	cutShort(w, held{w.network.Calls, "Setup", w.network.Block("Setup")}, unary(w.RunPodSandbox), &arktosv1alpha2.RunPodSandboxRequest{Config: config})
	w.isFound("the sandbox", func() bool {
		return len(w.pods()) == 1 && w.pods()[0].GetState() == arktosv1alpha2.PodSandboxState_SANDBOX_READY
	})
	sandbox := w.pods()[0].GetId()

	// It has its NICs by now, if the server has not yet heard that nobody waits, or gets them before its container is made.
	cutShort(w, held{w.disks.Calls, "CreateRoot", w.disks.Block("CreateRoot")}, unary(w.CreateContainer), &arktosv1alpha2.CreateContainerRequest{
		PodSandboxId: sandbox, Config: containerConfig(0), SandboxConfig: config,
	})
	w.isFound("the container", func() bool { return len(w.containersIn(arktosv1alpha2.ContainerState_CONTAINER_CREATED)) == 1 })
	w.hasNICs(sandbox, ready("eth0", "p0"), ready("eth1", "p1"))
	// It has the node agent count on: the one that was never started gives way.
	container := w.create(sandbox, 1, config)

	cutShort(w, held{w.hypervisor.Calls, "Start", w.hypervisor.Block("Start")}, unary(w.StartContainer), &arktosv1alpha2.StartContainerRequest{ContainerId: container})
	w.isFound("the VM", func() bool { return len(w.containersIn(arktosv1alpha2.ContainerState_CONTAINER_RUNNING)) == 1 })
	w.start(container)

	cutShort(w, held{w.guest.Calls, "Reboot", w.guest.Block("Reboot")}, unary(w.RebootVM), &arktosv1alpha2.RebootVMRequest{VmId: container})
	w.runs(container)
	w.isFound("the end of the reboot", func() bool { c, err := w.svc.Container(container); return err == nil && c.Status.Reboot == nil })
	w.runs(container)

	cutShort(w, held{w.hypervisor.Calls, "Snapshot", w.hypervisor.HoldSaving(sandbox)}, unary(w.CreateSnapshot), &arktosv1alpha2.CreateSnapshotRequest{VmID: container, SnapshotID: "s"})
	w.runs(container)
	w.isFound("the snapshot", func() bool {
		all, err := w.svc.Snapshots(t.Context(), sandbox)
		return err == nil && len(all) == 1 && all[0].Memory != nil && w.idle(sandbox)
	})

	cutShort(w, held{w.hypervisor.Calls, "StartFromMemory", w.hypervisor.Block("StartFromMemory")}, unary(w.RestoreToSnapshot), &arktosv1alpha2.RestoreToSnapshotRequest{VmID: container, SnapshotID: "s"})
	w.runs(container)
	w.isFound("the end of the restore", func() bool { return w.idle(sandbox) })
	w.runs(container)

	cutShort(w, held{w.network.Calls, "DetachNIC", w.network.Block("DetachNIC")}, unary(w.DetachNetworkInterface), device("db", "eth1", ""))
	w.isFound("that the NIC is gone", func() bool { return len(w.podStatus(sandbox).GetNetwork().GetNics()) == 1 })

	cutShort(w, held{w.network.Calls, "Teardown", w.network.Block("Teardown")}, unary(w.StopPodSandbox), &arktosv1alpha2.StopPodSandboxRequest{PodSandboxId: sandbox})
	w.isFound("that the sandbox is stopped", func() bool { return w.pods()[0].GetState() == arktosv1alpha2.PodSandboxState_SANDBOX_NOTREADY })
	must[*arktosv1alpha2.StopPodSandboxResponse](t)(w.StopPodSandbox(t.Context(), &arktosv1alpha2.StopPodSandboxRequest{PodSandboxId: sandbox}))
}

// idle tells whether all that was begun with a sandbox's VM has ended.
func (w *world) idle(sandbox string) bool {
	w.t.Helper()
	sb, err := w.svc.Sandbox(sandbox)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, op := range sb.Status.Operations {
		if op.EndedAt.IsZero() {
			return false
		}
	}
	return true
}

// A caller may be gone before what it asked for is on record. It is told what goes on all the same.
func TestACallerThatLeavesAtOnceIsTold(t *testing.T) {
	w := newWorld(t)
	sandbox, _ := w.running(podConfig("acme"))
	ctx, leave := context.WithCancel(t.Context())
	leave()
	_, err := w.svc.CreateSnapshot(ctx, sandbox, vm.SnapshotRequest{Name: "s", Memory: true})
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "snapshot s of sandbox "+sandbox) {
		t.Errorf("error = %v", err)
	}
	w.isFound("the snapshot", func() bool {
		all, err := w.svc.Snapshots(t.Context(), sandbox)
		return err == nil && len(all) == 1 && w.idle(sandbox)
	})
}
