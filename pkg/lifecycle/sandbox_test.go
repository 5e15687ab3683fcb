// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

func TestSandboxFromRunToRemoveLeavesNothing(t *testing.T) {
	w := newWorld(t)
	sb, c := w.running("a")
	if got := w.container(c).Status.State; got != vm.ContainerRunning {
		t.Errorf("container is %s", got)
	}
	if err := w.svc.StopSandbox(t.Context(), sb); err != nil {
		t.Fatal(err)
	}
	if got := w.exit(c); got.Code != 137 || got.Reason != vm.ReasonKilled {
		t.Errorf("exit = %+v, want 137 Killed", got)
	}
	record, err := w.svc.Sandbox(sb)
	if err != nil || record.Status.State != vm.SandboxNotReady || record.Status.Network != nil {
		t.Errorf("sandbox = %+v, %v", record.Status, err)
	}
	if len(w.disks.Files()) == 0 {
		t.Error("the disk went with the stop; it belongs to the sandbox")
	}
	if err := w.svc.RemoveSandbox(t.Context(), sb); err != nil {
		t.Fatal(err)
	}
	w.nothingLeft()
}

func TestUnknownIDsAreAlreadyStoppedAndRemoved(t *testing.T) {
	w := newWorld(t)
	for name, err := range map[string]error{
		"StopSandbox":     w.svc.StopSandbox(t.Context(), "nope"),
		"RemoveSandbox":   w.svc.RemoveSandbox(t.Context(), "nope"),
		"StopContainer":   w.svc.StopContainer(t.Context(), "nope", time.Second),
		"RemoveContainer": w.svc.RemoveContainer(t.Context(), "nope"),
		"RemoveImage":     w.svc.RemoveImage(t.Context(), "nope/nope:1"),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStopAndRemoveTwiceAreOnce(t *testing.T) {
	w := newWorld(t)
	sb, _ := w.running("a")
	for range 2 {
		if err := w.svc.StopSandbox(t.Context(), sb); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := w.svc.RemoveSandbox(t.Context(), sb); err != nil {
			t.Fatal(err)
		}
	}
	if n := count(w.network.Calls(), "Teardown "+sb); n != 1 {
		t.Errorf("the network was torn down %d times", n)
	}
	w.nothingLeft()
}

func count(calls []string, call string) (n int) {
	for _, c := range calls {
		if c == call {
			n++
		}
	}
	return n
}

func TestRetryOfASlowRunWaitsForTheFirstAndGetsItsID(t *testing.T) {
	w := newWorld(t)
	release := w.network.Block("Setup")
	defer release()
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() { _, err := w.svc.RunSandbox(ctx, podSpec("a")); first <- err }()
	for !slices.ContainsFunc(w.network.Calls(), func(c string) bool { return strings.HasPrefix(c, "Setup ") }) {
		runtime.Gosched() // until the work has begun
	}
	cancel() // the caller gives up, the work goes on
	mustBe(t, <-first, context.Canceled)

	hasty, giveUp := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer giveUp()
	_, err := w.svc.RunSandbox(hasty, podSpec("a")) // waits for the first, as long as it can
	mustBe(t, err, context.DeadlineExceeded)

	ids := make([]string, 3)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			id, err := w.svc.RunSandbox(t.Context(), podSpec("a"))
			if err != nil {
				t.Error(err)
			}
			ids[i] = id
		})
	}
	release()
	wg.Wait()
	again, err := w.svc.RunSandbox(t.Context(), podSpec("a"))
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if id != again {
			t.Errorf("IDs differ: %v and %s", ids, again)
		}
	}
	if all := w.svc.Sandboxes(); len(all) != 1 {
		t.Errorf("%d sandboxes, want 1", len(all))
	}
	setups := slices.DeleteFunc(w.network.Calls(), func(c string) bool { return !strings.HasPrefix(c, "Setup ") })
	if len(setups) != 1 {
		t.Errorf("%v: a caller that gave up took the work with it", setups)
	}
}

func TestAnEndedAttemptIsNotRunAgain(t *testing.T) {
	w := newWorld(t)
	sb := w.sandbox("a")
	if err := w.svc.StopSandbox(t.Context(), sb); err != nil {
		t.Fatal(err)
	}
	_, err := w.svc.RunSandbox(t.Context(), podSpec("a"))
	mustBe(t, err, errdefs.ErrAlreadyExists)
	next := podSpec("a")
	next.Attempt = 1
	id, err := w.svc.RunSandbox(t.Context(), next)
	if err != nil || id == sb {
		t.Errorf("next attempt: %q, %v", id, err)
	}
}

func TestFailedRunLeavesNothing(t *testing.T) {
	w := newWorld(t)
	w.network.FailNext("Setup", errdefs.ErrUnavailable)
	_, err := w.svc.RunSandbox(t.Context(), podSpec("a"))
	mustBe(t, err, errdefs.ErrUnavailable)
	w.nothingLeft()
}

func TestRunWhoseUndoFailsStaysForStopToFinish(t *testing.T) {
	w := newWorld(t)
	w.network.FailNext("Setup", errors.New("plugin crashed"))
	w.network.FailNext("Teardown", errors.New("plugin crashed again"))
	if _, err := w.svc.RunSandbox(t.Context(), podSpec("a")); err == nil {
		t.Fatal("no error")
	}
	all := w.svc.Sandboxes()
	if len(all) != 1 || all[0].Status.State != vm.SandboxBroken || all[0].Status.Message == "" {
		t.Fatalf("sandboxes = %+v, want one Broken with a message", all)
	}
	if err := w.svc.RemoveSandbox(t.Context(), all[0].ID); err != nil {
		t.Fatal(err)
	}
	w.nothingLeft()
}

func TestStopThatFailsIsFinishedByTheNextOne(t *testing.T) {
	for _, method := range []string{"Destroy", "Undefine", "Teardown", "Remove"} {
		t.Run(method, func(t *testing.T) {
			w := newWorld(t)
			sb, _ := w.running("a")
			for _, fake := range []interface{ FailNext(string, error) }{w.hypervisor, w.network, w.cgroups} {
				fake.FailNext(method, errdefs.ErrUnavailable)
			}
			for range 3 { // some methods are called twice, and one exit tolerates a failure
				if err := w.svc.RemoveSandbox(t.Context(), sb); err == nil {
					break
				}
			}
			w.nothingLeft()
		})
	}
}

func TestBadAnnotationIsRefusedBeforeAnythingHappens(t *testing.T) {
	w := newWorld(t)
	spec := podSpec("a")
	spec.Annotations = map[string]string{"vmlet.io/vcpu": "2"}
	_, err := w.svc.RunSandbox(t.Context(), spec)
	mustBe(t, err, errdefs.ErrInvalidArgument)
	if calls := w.network.Calls(); slices.ContainsFunc(calls, func(c string) bool { return c != "Present" }) {
		t.Errorf("network was called: %v", calls)
	}
	w.nothingLeft()
}

func TestFindByPrefix(t *testing.T) {
	w := newWorld(t)
	sb, c := w.running("a")
	if got, err := w.svc.Sandbox(sb[:8]); err != nil || got.ID != sb {
		t.Errorf("Sandbox(%s) = %s, %v", sb[:8], got.ID, err)
	}
	if got, err := w.svc.Container(c[:8]); err != nil || got.ID != c {
		t.Errorf("Container(%s) = %s, %v", c[:8], got.ID, err)
	}
	_, err := w.svc.Sandbox("")
	mustBe(t, err, errdefs.ErrNotFound)
}
