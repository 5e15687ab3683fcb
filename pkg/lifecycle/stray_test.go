// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/lifecycle"
	"github.com/vmlet/vmlet/pkg/vm"
)

// stray makes a start fail whose undo fails too: the container is Exited, its QEMU runs.
func (w *world) stray() (sandboxID string) {
	w.t.Helper()
	sandboxID = w.sandbox("a")
	c := w.created(sandboxID, 0)
	w.hypervisor.FailNext("Resume", errdefs.ErrUnavailable)
	w.hypervisor.FailNext("Destroy", errdefs.ErrUnavailable)
	if err := w.svc.StartContainer(w.t.Context(), c); err == nil {
		w.t.Fatal("no error")
	}
	if got := w.exit(c); got.Reason != vm.ReasonStartError {
		w.t.Fatalf("exit = %+v", got)
	}
	if !w.active(sandboxID) {
		w.t.Fatal("there is no stray VM")
	}
	return sandboxID
}

func (w *world) active(sandboxID string) bool {
	w.t.Helper()
	d, err := w.hypervisor.Domain(w.t.Context(), sandboxID)
	if err != nil {
		w.t.Fatal(err)
	}
	return d.State.Active()
}

func TestTheNextAttemptEndsWhatAFailedStartLeft(t *testing.T) {
	w := newWorld(t)
	sb := w.stray()
	c := w.created(sb, 1)
	if err := w.svc.StartContainer(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

func TestARestartEndsWhatAFailedStartLeft(t *testing.T) {
	w := newWorld(t)
	sb := w.stray()
	w.restart()
	if w.active(sb) {
		t.Error("the VM still runs")
	}
}

func TestLibvirtBackEndsWhatAFailedStartLeft(t *testing.T) {
	w := newWorld(t)
	sb := w.stray()
	_, alive := w.running("b")
	w.hypervisor.Disconnect()
	w.hypervisor.Reconnect()
	deadline := time.Now().Add(10 * time.Second)
	for w.active(sb) {
		if time.Now().After(deadline) {
			t.Fatal("the VM still runs")
		}
		time.Sleep(time.Millisecond) // it is another goroutine's, without an event
	}
	if got := w.container(alive).Status.State; got != vm.ContainerRunning {
		t.Errorf("the other VM's container is %s", got)
	}
}

func TestACreationWhoseUndoFailedIsNotInTheWay(t *testing.T) {
	for name, next := range map[string]func(*world, string) error{
		"the same attempt": func(w *world, sb string) error { w.created(sb, 0); return nil },
		"the next attempt": func(w *world, sb string) error { w.created(sb, 1); return nil },
		"the sandbox's stop": func(w *world, sb string) error {
			return w.svc.StopSandbox(w.t.Context(), sb)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			sb := w.sandbox("a")
			w.hypervisor.FailNext("Define", errors.New("no"))
			w.hypervisor.FailNext("Undefine", errors.New("no"))
			if _, err := w.svc.CreateContainer(t.Context(), sb, containerSpec(0)); err == nil {
				t.Fatal("no error")
			}
			if err := next(w, sb); err != nil {
				t.Fatal(err)
			}
			if err := w.svc.RemoveSandbox(t.Context(), sb); err != nil {
				t.Fatal(err)
			}
			w.nothingLeft()
		})
	}
}

// TestAStopEndsTheVMOfACreationThatStands: what was cut short left a record that says
// Creating and a domain that is active; the definition of such a one cannot be removed.
func TestAStopEndsTheVMOfACreationThatStands(t *testing.T) {
	w := newWorld(t)
	sb := w.stray()
	standing := vm.Container{
		ID: "0123456789abcdef0123456789abcdef", SandboxID: sb, Spec: containerSpec(1), CreatedAt: time.Now(),
		Status: vm.ContainerStatus{State: vm.ContainerCreating},
	}
	if err := w.store.Containers().Create(standing.ID, standing, "test"); err != nil {
		t.Fatal(err)
	}
	if err := w.svc.RemoveSandbox(t.Context(), sb); err != nil {
		t.Fatal(err)
	}
	w.nothingLeft()
}

func TestASandboxWhoseUndoFailsAtARestartCanBeRemoved(t *testing.T) {
	w := newWorld(t)
	sb := vm.Sandbox{
		ID: "0123456789abcdef0123456789abcdef", Spec: podSpec("a"), CreatedAt: time.Now(),
		Status: vm.SandboxStatus{State: vm.SandboxCreating},
	}
	if err := w.store.Sandboxes().Create(sb.ID, sb, "test"); err != nil {
		t.Fatal(err)
	}
	w.network.FailNext("Teardown", errors.New("the plugin is ill"))
	w.restart()
	got, err := w.svc.Sandbox(sb.ID)
	if err != nil || got.Status.State != vm.SandboxBroken || got.Status.Message == "" {
		t.Fatalf("sandbox = %+v, %v", got.Status, err)
	}
	if err := w.svc.RemoveSandbox(t.Context(), sb.ID); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(w.network.Calls(), "Teardown "+sb.ID) {
		t.Error("its network was not given back")
	}
	w.nothingLeft()
}

func TestAnOrphanThatCannotBeRemovedDoesNotHoldUpTheStart(t *testing.T) {
	w := newWorld(t)
	orphan := vm.Machine{SandboxID: "fedcba9876543210fedcba9876543210", Owner: w.store.Owner()}
	if err := w.hypervisor.Define(t.Context(), orphan); err != nil {
		t.Fatal(err)
	}
	w.hypervisor.FailNext("Undefine", errors.New("no"))
	w.restart() // fails the test if Recover fails
}

// TestADomainThatTheListLacksIsLookedForBeforeItsExitIsRecorded: a domain that is busy
// can be missing from a list.
func TestADomainThatTheListLacksIsLookedForBeforeItsExitIsRecorded(t *testing.T) {
	w := newWorld(t)
	_, c := w.running("a")
	w.adjust = func(d *lifecycle.Deps) { d.Hypervisor = forgetful{d.Hypervisor} }
	w.restart()
	if got := w.container(c).Status; got.State != vm.ContainerRunning {
		t.Errorf("status = %+v", got)
	}
	if !slices.Contains(w.consoles.Calls(), "Follow "+c) {
		t.Error("the console is not followed")
	}
}
