// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

func TestStartDoesItsStepsInTheOnlySafeOrder(t *testing.T) {
	w := newWorld(t)
	sb, _ := w.running("a")
	var order []string
	for _, call := range w.hypervisor.Calls() {
		if m, _, _ := strings.Cut(call, " "); m == "Define" || m == "Start" || m == "Resume" {
			order = append(order, m)
		}
	}
	if want := []string{"Define", "Start", "Resume"}; !slices.Equal(order, want) {
		t.Errorf("order = %v, want %v", order, want)
	}
	if w.network.Wired(sb) != 1 {
		t.Error("the tap was not wired")
	}
	if g := w.cgroups.Groups()[sb]; len(g.PIDs) != 1 {
		t.Errorf("cgroup = %+v, want QEMU in it", g)
	}
}

func TestSecondContainerIsRefusedWithAWayOut(t *testing.T) {
	w := newWorld(t)
	sb, live := w.running("a")
	before := w.disks.Files()
	spec := containerSpec(0)
	spec.Name = "sidecar"
	_, err := w.svc.CreateContainer(t.Context(), sb, spec)
	mustBe(t, err, errdefs.ErrFailedPrecondition)
	for _, way := range []string{"container vm is Running", "one container at a time", "sidecar", "inside the guest", "another pod", "instead of an ephemeral container use exec"} {
		if !strings.Contains(err.Error(), way) {
			t.Errorf("error %q does not say %q", err, way)
		}
	}
	if strings.Contains(err.Error(), live) || strings.Contains(err.Error(), sb) {
		t.Errorf("error %q has an ID: kubelet makes an event of each that differs", err)
	}
	if after := w.disks.Files(); !slices.Equal(before, after) {
		t.Errorf("files %v, were %v", after, before)
	}
}

func TestRetryOfACreateGetsTheFirstID(t *testing.T) {
	w := newWorld(t)
	sb := w.sandbox("a")
	ids := make([]string, 4)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			id, err := w.svc.CreateContainer(t.Context(), sb, containerSpec(0))
			if err != nil {
				t.Error(err)
			}
			ids[i] = id
		})
	}
	wg.Wait()
	if len(slices.Compact(ids)) != 1 || ids[0] != w.created(sb, 0) {
		t.Errorf("IDs = %v", ids)
	}
}

func TestTwoStartsAtOnceAreOne(t *testing.T) {
	w := newWorld(t)
	sb := w.sandbox("a")
	c := w.created(sb, 0)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := w.svc.StartContainer(t.Context(), c); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	// And one that comes when the work which they shared is done.
	if err := w.svc.StartContainer(t.Context(), c); err != nil {
		t.Error(err)
	}
	if n := count(w.hypervisor.Calls(), "Start "+sb); n != 1 {
		t.Errorf("%d starts of the domain", n)
	}
}

func TestANewerAttemptSupersedesOneThatWasNeverStarted(t *testing.T) {
	w := newWorld(t)
	sb := w.sandbox("a")
	old := w.created(sb, 0)
	w.created(sb, 1)
	if got := w.exit(old); got.Reason != vm.ReasonSuperseded {
		t.Errorf("exit = %+v", got)
	}
}

func TestRestartsShareTheDiskAndRemovedAttemptsLeaveItAlone(t *testing.T) {
	w := newWorld(t)
	sb := w.sandbox("a")
	var disks []string
	for attempt := range uint32(4) {
		c := w.created(sb, attempt)
		if err := w.svc.StartContainer(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		m, _ := w.hypervisor.Machine(sb)
		disks = append(disks, m.Disks[0].Path)
		w.hypervisor.PowerOff(sb)
		w.exit(c)
		if attempt > 0 {
			if err := w.svc.RemoveContainer(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(slices.Compact(disks)) != 1 {
		t.Errorf("disks = %v, want one", disks)
	}
	if !slices.Contains(w.disks.Files(), disks[0]) {
		t.Error("the disk is gone")
	}
}

func TestAFailedCreateOfALaterAttemptNeverTouchesTheDisk(t *testing.T) {
	w := newWorld(t)
	sb, c := w.running("a")
	m, _ := w.hypervisor.Machine(sb)
	w.hypervisor.PowerOff(sb)
	w.exit(c)
	if err := w.svc.RemoveContainer(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	// Attempt 0 again: a kubelet that lost its records counts from the start.
	w.hypervisor.FailNext("Define", errors.New("libvirt said no"))
	if _, err := w.svc.CreateContainer(t.Context(), sb, containerSpec(0)); err == nil {
		t.Fatal("no error")
	}
	if !slices.Contains(w.disks.Files(), m.Disks[0].Path) {
		t.Error("a failed create removed a disk with a guest's data")
	}
}

func TestInitContainersHaveTheirOwnDisk(t *testing.T) {
	w := newWorld(t)
	sb := w.sandbox("a")
	spec := containerSpec(0)
	spec.Name = "init"
	c, err := w.svc.CreateContainer(t.Context(), sb, spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.svc.StartContainer(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	first, _ := w.hypervisor.Machine(sb)
	w.hypervisor.PowerOff(sb)
	w.exit(c)
	w.created(sb, 0)
	second, _ := w.hypervisor.Machine(sb)
	if first.Disks[0].Path == second.Disks[0].Path {
		t.Error("the main container boots from the init container's disk")
	}
}

func TestFailedCreateLeavesNothing(t *testing.T) {
	for _, method := range []string{"Resolve", "CreateRoot", "WriteSeed", "CreateSpool", "Define"} {
		t.Run(method, func(t *testing.T) {
			w := newWorld(t)
			sb := w.sandbox("a")
			for _, fake := range []interface{ FailNext(string, error) }{w.images, w.disks, w.hypervisor} {
				fake.FailNext(method, errdefs.ErrResourceExhausted)
			}
			_, err := w.svc.CreateContainer(t.Context(), sb, containerSpec(0))
			mustBe(t, err, errdefs.ErrResourceExhausted)
			if files := w.disks.Files(); len(files) != 0 {
				t.Errorf("files left: %v", files)
			}
			if record, err := w.svc.Sandbox(sb); err != nil || len(record.Status.Disks) != 0 {
				t.Errorf("disks left: %v", record.Status.Disks)
			}
			if all := w.store.Containers().List(); len(all) != 0 {
				t.Errorf("records left: %v", all)
			}
			if err := w.svc.RemoveImage(t.Context(), testImage); err != nil {
				t.Errorf("the image is still held: %v", err)
			}
		})
	}
}

func TestFailedStartEndsTheContainerAndFreesEverything(t *testing.T) {
	cases := map[string]func(*world){
		"Start":  func(w *world) { w.hypervisor.FailNext("Start", errors.New("no")) },
		"Resume": func(w *world) { w.hypervisor.FailNext("Resume", errors.New("no")) },
		"PID":    func(w *world) { w.hypervisor.FailNext("PID", errors.New("no")) },
		"Create": func(w *world) { w.cgroups.FailNext("Create", errors.New("no")) },
		"Place":  func(w *world) { w.cgroups.FailNext("Place", errors.New("no")) },
		"Wire":   func(w *world) { w.network.FailNext("Wire", errors.New("no")) },
		"Follow": func(w *world) { w.consoles.FailNext("Follow", errors.New("no")) },
	}
	for name, fail := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			sb := w.sandbox("a")
			c := w.created(sb, 0)
			fail(w)
			if err := w.svc.StartContainer(t.Context(), c); err == nil {
				t.Fatal("no error")
			}
			if got := w.exit(c); got.Code != 128 || got.Reason != vm.ReasonStartError || got.Message == "" {
				t.Errorf("exit = %+v", got)
			}
			if d, err := w.hypervisor.Domain(t.Context(), sb); err != nil || d.State.Active() {
				t.Errorf("domain = %+v, %v", d, err)
			}
			if groups := w.cgroups.Groups(); len(groups) != 0 {
				t.Errorf("cgroups left: %v", groups)
			}
			w.created(sb, 1) // the next attempt is not in the way of the last
		})
	}
}

func TestImageInUseIsKept(t *testing.T) {
	w := newWorld(t)
	sb := w.sandbox("a")
	w.created(sb, 0)
	mustBe(t, w.svc.RemoveImage(t.Context(), testImage), errdefs.ErrFailedPrecondition)
	if err := w.svc.RemoveSandbox(t.Context(), sb); err != nil {
		t.Fatal(err)
	}
	if err := w.svc.RemoveImage(t.Context(), testImage); err != nil {
		t.Fatal(err)
	}
}

func TestUnknownImageAndStoppedSandboxAreRefused(t *testing.T) {
	w := newWorld(t)
	sb := w.sandbox("a")
	spec := containerSpec(0)
	spec.ImageRef = "registry.test/other:1"
	_, err := w.svc.CreateContainer(t.Context(), sb, spec)
	mustBe(t, err, errdefs.ErrNotFound)
	if err := w.svc.StopSandbox(t.Context(), sb); err != nil {
		t.Fatal(err)
	}
	_, err = w.svc.CreateContainer(t.Context(), sb, containerSpec(0))
	mustBe(t, err, errdefs.ErrFailedPrecondition)
	_, err = w.svc.CreateContainer(t.Context(), "nope", containerSpec(0))
	mustBe(t, err, errdefs.ErrNotFound)
}

func TestRemoveRunningContainerEndsItFirst(t *testing.T) {
	w := newWorld(t)
	sb, c := w.running("a")
	if err := w.svc.RemoveContainer(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if d, err := w.hypervisor.Domain(t.Context(), sb); err != nil || d.State.Active() {
		t.Error("the VM still runs")
	}
	if err := w.svc.RemoveSandbox(t.Context(), sb); err != nil {
		t.Fatal(err)
	}
	w.nothingLeft()
}

func TestRemovingADeadAttemptLeavesTheNextOneRunning(t *testing.T) {
	w := newWorld(t)
	sb, old := w.running("a")
	w.hypervisor.PowerOff(sb)
	w.exit(old)
	next := w.created(sb, 1)
	if err := w.svc.StartContainer(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	if err := w.svc.RemoveContainer(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	if d, err := w.hypervisor.Domain(t.Context(), sb); err != nil || d.State != vm.DomainRunning {
		t.Errorf("domain is %s", d.State)
	}
	if got := w.container(next).Status.State; got != vm.ContainerRunning {
		t.Errorf("container is %s", got)
	}
}

func TestExecAndLogNeedARunningContainer(t *testing.T) {
	w := newWorld(t)
	sb := w.sandbox("a")
	c := w.created(sb, 0)
	_, err := w.svc.Exec(t.Context(), c, vm.ExecRequest{Command: []string{"true"}})
	mustBe(t, err, errdefs.ErrFailedPrecondition)
	mustBe(t, w.svc.ReopenLog(t.Context(), c), errdefs.ErrFailedPrecondition)
}

func TestStopObeyedIsZero(t *testing.T) {
	w := newWorld(t)
	_, c := w.running("a")
	if err := w.svc.StopContainer(t.Context(), c, time.Minute); err != nil {
		t.Fatal(err)
	}
	if got := w.exit(c); got.Code != 0 || got.Reason != vm.ReasonCompleted {
		t.Errorf("exit = %+v", got)
	}
	if err := w.svc.StopContainer(t.Context(), c, time.Minute); err != nil {
		t.Errorf("second stop: %v", err)
	}
}

func TestDeafGuestIsDestroyedAtTheDeadline(t *testing.T) {
	w := newWorld(t)
	w.hypervisor.IgnorePowerButton()
	_, c := w.running("a")
	if err := w.svc.StopContainer(t.Context(), c, 30*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if got := w.exit(c); got.Code != 137 || got.Reason != vm.ReasonKilled {
		t.Errorf("exit = %+v", got)
	}
}

func TestForcedStopPreemptsAGracefulOne(t *testing.T) {
	w := newWorld(t)
	w.hypervisor.IgnorePowerButton()
	sb, c := w.running("a")
	graceful := make(chan error, 1)
	go func() { graceful <- w.svc.StopContainer(t.Context(), c, time.Hour) }()
	if err := w.hypervisor.WaitCall(t.Context(), "PowerButton "+sb); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := w.svc.StopContainer(ctx, c, 0); err != nil {
		t.Fatal(err)
	}
	if err := <-graceful; err != nil {
		t.Errorf("the graceful stop: %v", err)
	}
	if got := w.exit(c); got.Code != 137 {
		t.Errorf("exit = %+v", got)
	}
}

func TestStatusAndLogAreNotHeldUpByAGracePeriod(t *testing.T) {
	w := newWorld(t)
	w.hypervisor.IgnorePowerButton()
	sb, c := w.running("a")
	go func() { _ = w.svc.StopContainer(t.Context(), c, time.Hour) }() //nolint:errcheck // the stop below ends it
	if err := w.hypervisor.WaitCall(t.Context(), "PowerButton "+sb); err != nil {
		t.Fatal(err)
	}
	if err := w.svc.ReopenLog(t.Context(), c); err != nil {
		t.Error(err)
	}
	if got := w.container(c).Status; got.State != vm.ContainerRunning || got.Stop == nil {
		t.Errorf("status = %+v", got)
	}
	if err := w.svc.StopSandbox(t.Context(), sb); err != nil {
		t.Error(err)
	}
}
