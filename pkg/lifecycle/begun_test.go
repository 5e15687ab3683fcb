// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// execs runs a command in a container, and tells how that has ended.
func (w *world) execs(containerID string) <-chan error {
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
		defer cancel()
		_, err := w.svc.Exec(ctx, containerID, vm.ExecRequest{Command: []string{"true"}})
		done <- err
	}()
	return done
}

// A postStart hook and the first exec probe find the pod's volumes there.
func TestExecWaitsForTheMachineToBeAsThePodWantsItInEachBoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		release := w.guest.Block("Setup")
		sb, c := w.running("a")
		for boot := range 2 {
			done := w.execs(c)
			synctest.Wait()
			if count(w.guest.Calls(), "Exec "+sb) != boot {
				t.Errorf("boot %d: it did not wait", boot)
			}
			release()
			if err := <-done; err != nil {
				t.Error(err)
			}
			release = w.guest.Block("Setup")
			w.guest.Boot(sb)
			synctest.Wait()
		}
		release()
	})
}

// Who looks what is wrong with a machine has to be let in.
func TestExecDoesNotWaitForWhatWillNotBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.guest.FailNext("Setup", errdefs.ErrInvalidArgument)
		_, refused := w.running("refused")
		if err := <-w.execs(refused); err != nil {
			t.Errorf("in a guest that refuses: %v", err)
		}

		sb := w.sandbox("foreign")
		w.guest.SetForeign(sb)
		if err := <-w.execs(w.startedIn(sb)); err != nil {
			t.Errorf("in a guest with qemu-guest-agent alone: %v", err)
		}

		spec := podSpec("portless")
		spec.Annotations = map[string]string{"vmlet.io/guest-agent": "qga"}
		sb, err := w.svc.RunSandbox(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		if err := <-w.execs(w.startedIn(sb)); err != nil {
			t.Errorf("in a machine without a port for vmlet-agent: %v", err)
		}
	})
}

func (w *world) startedIn(sandboxID string) (containerID string) {
	w.t.Helper()
	containerID = w.created(sandboxID, 0)
	if err := w.svc.StartContainer(w.t.Context(), containerID); err != nil {
		w.t.Fatal(err)
	}
	return containerID
}

// kubelet sets no time for a hook, and ends no pod before its postStart hook has ended.
func TestExecInAMachineWithoutAnAgentGivesUpInTimeAndSaysWhatToDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.guest.Mute()
		begin := time.Now()
		_, c := w.running("a")
		_, err := w.svc.Exec(t.Context(), c, vm.ExecRequest{Command: []string{"true"}})
		mustBe(t, err, errdefs.ErrUnavailable)
		if !strings.Contains(err.Error(), "vmlet.io/guest-agent=seed") {
			t.Errorf("error = %v", err)
		}
		if took := time.Since(begin); took != w.cfg.Defaults.AgentTimeout {
			t.Errorf("it took %s", took)
		}
	})
}

// A probe with a timeout of a second would never learn of qemu-guest-agent, which is believed to be alone after three.
func TestExecsThatDoNotWaitLearnOfTheOtherAgentTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb := w.sandbox("a")
		w.guest.SetForeign(sb)
		release := w.guest.Block("AwaitAny")
		c := w.startedIn(sb)
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, err := w.svc.Exec(ctx, c, vm.ExecRequest{Command: []string{"true"}})
			mustBe(t, err, context.DeadlineExceeded)
			cancel()
		}
		release()
		synctest.Wait()
		if err := <-w.execs(c); err != nil {
			t.Error(err)
		}
		if n := count(w.guest.Calls(), "AwaitAny "+sb); n != 1 {
			t.Errorf("it was looked for %d times", n)
		}
	})
}
