// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

func TestEventsBecomeExits(t *testing.T) {
	for name, tc := range map[string]struct {
		do     func(*world, string)
		code   int32
		reason string
	}{
		"poweroff": {func(w *world, sb string) { w.hypervisor.PowerOff(sb) }, 0, vm.ReasonCompleted},
		"panic":    {func(w *world, sb string) { w.hypervisor.Panic(sb) }, 1, vm.ReasonGuestPanicked},
		"kill":     {func(w *world, sb string) { w.hypervisor.Kill(sb) }, 137, vm.ReasonKilled},
		"SIGTERM":  {func(w *world, sb string) { w.hypervisor.Terminate(sb) }, 143, vm.ReasonKilled},
		"OOM": {func(w *world, sb string) {
			w.cgroups.SetOOMKills(sb, 1)
			w.hypervisor.Kill(sb)
		}, 137, vm.ReasonOOMKilled},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			sb, c := w.running("a")
			tc.do(w, sb)
			if got := w.exit(c); got.Code != tc.code || got.Reason != tc.reason {
				t.Errorf("exit = %+v, want %d %s", got, tc.code, tc.reason)
			}
			if !slices.Contains(w.consoles.Calls(), "Finish "+c) {
				t.Error("the log was not finished")
			}
			if groups := w.cgroups.Groups(); len(groups) != 0 {
				t.Errorf("cgroups left: %v", groups)
			}
		})
	}
}

func TestARebootIsNoExit(t *testing.T) {
	w := newWorld(t)
	sb, c := w.running("a")
	w.hypervisor.Reboot(sb)
	w.hypervisor.Emit(vm.Event{SandboxID: sb, Kind: vm.EventStopped, Detail: "shutdown"}) // late, of an earlier boot
	if err := w.hypervisor.WaitCall(t.Context(), "Domain "+sb); err != nil {
		t.Fatal(err)
	}
	// Whoever looks holds the sandbox's lock: this waits until it has made up its mind.
	_, err := w.svc.CreateContainer(t.Context(), sb, containerSpec(1))
	mustBe(t, err, errdefs.ErrFailedPrecondition)
	if got := w.container(c).Status.State; got != vm.ContainerRunning {
		t.Errorf("container is %s", got)
	}
}

func TestEndsThatNobodyHeardAreSettled(t *testing.T) {
	for name, tc := range map[string]struct {
		do     func(*world, string)
		code   int32
		reason string
	}{
		"poweroff": {func(w *world, sb string) { w.hypervisor.PowerOff(sb) }, 0, vm.ReasonCompleted},
		"kill":     {func(w *world, sb string) { w.hypervisor.Kill(sb) }, 137, vm.ReasonUnknown},
		"OOM": {func(w *world, sb string) {
			w.cgroups.SetOOMKills(sb, 1)
			w.hypervisor.Kill(sb)
		}, 137, vm.ReasonOOMKilled},
		"vanished": {func(w *world, sb string) { w.hypervisor.Vanish(sb) }, 255, vm.ReasonUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			sb, c := w.running("a")
			w.die()
			w.hypervisor.Disconnect() // events are lost
			ended := time.Now()
			tc.do(w, sb)
			w.hypervisor.Reconnect()
			w.start()
			got := w.exit(c)
			if got.Code != tc.code || got.Reason != tc.reason {
				t.Errorf("exit = %+v, want %d %s", got, tc.code, tc.reason)
			}
			if name == "poweroff" && got.At.Sub(ended).Abs() > 5*time.Second {
				t.Errorf("finished at %v, ended at %v", got.At, ended)
			}
		})
	}
}

// TestAVMThatLibvirtdEndsAfterItsStartHasEnded, also where nobody is told: it was among those that ran when we listed them.
func TestAVMThatLibvirtdEndsAfterItsStartHasEnded(t *testing.T) {
	for name, found := range map[string]func(w *world){
		"while we are there": func(w *world) {
			w.hypervisor.Disconnect()
			w.hypervisor.Reconnect()
		},
		"together with us": func(w *world) { w.restart() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				_, c := w.running("a")
				time.Sleep(time.Hour)
				found(w)
				synctest.Wait()
				w.hypervisor.RebootHost() // no event
				time.Sleep(time.Minute)
				synctest.Wait()
				if st := w.container(c).Status; st.State != vm.ContainerExited {
					t.Errorf("the container is %s", st.State)
				}
			})
		})
	}
}

func TestLibvirtAwayAndBackSettlesWhatEndedMeanwhile(t *testing.T) {
	w := newWorld(t)
	sb, c := w.running("a")
	other, alive := w.running("b")
	w.hypervisor.Disconnect()
	w.hypervisor.PowerOff(sb)
	w.hypervisor.Reconnect()
	if got := w.exit(c); got.Code != 0 {
		t.Errorf("exit = %+v", got)
	}
	if got := w.container(alive).Status.State; got != vm.ContainerRunning {
		t.Errorf("the VM of %s is %s", other, got)
	}
}

func TestRestartLeavesRunningVMsAloneAndFollowsThem(t *testing.T) {
	w := newWorld(t)
	sb, c := w.running("a")
	before := len(w.hypervisor.Calls())
	w.restart()
	for _, call := range w.hypervisor.Calls()[before:] {
		if call != "Domains" {
			t.Errorf("recovery called %s", call)
		}
	}
	w.hypervisor.PowerOff(sb)
	if got := w.exit(c); got.Code != 0 {
		t.Errorf("exit = %+v", got)
	}
}

func TestHostRebootKeepsDisksAndFreesLeases(t *testing.T) {
	w := newWorld(t)
	sb, c := w.running("a")
	w.die()
	w.hypervisor.RebootHost()
	w.network.LoseNetNS(sb)
	w.start()
	if got := w.exit(c); got.Reason != vm.ReasonUnknown {
		t.Errorf("exit = %+v", got)
	}
	record, err := w.svc.Sandbox(sb)
	if err != nil || record.Status.State != vm.SandboxNotReady || record.Status.Message == "" {
		t.Errorf("sandbox = %+v, %v", record.Status, err)
	}
	if reqs, err := w.network.List(t.Context()); err != nil || len(reqs) != 0 {
		t.Errorf("leases left: %v", reqs)
	}
	if !slices.Contains(w.disks.Files(), record.Status.Disks[0].Path) {
		t.Error("the disk is gone")
	}
	if err := w.svc.RemoveSandbox(t.Context(), sb); err != nil {
		t.Fatal(err)
	}
	w.nothingLeft()
}

func TestStopGoesOnAfterARestartToItsPromisedDeadline(t *testing.T) {
	w := newWorld(t)
	w.hypervisor.IgnorePowerButton()
	sb, c := w.running("a")
	go func() { _ = w.svc.StopContainer(t.Context(), c, 300*time.Millisecond) }() //nolint:errcheck // this life of the daemon ends first
	if err := w.hypervisor.WaitCall(t.Context(), "PowerButton "+sb); err != nil {
		t.Fatal(err)
	}
	w.restart()
	if got := w.exit(c); got.Code != 137 {
		t.Errorf("exit = %+v", got)
	}
}

func TestForeignAndOtherOwnersDomainsAreNotTouched(t *testing.T) {
	w := newWorld(t)
	w.hypervisor.AddForeign("f00d")
	other := vm.Machine{SandboxID: "0123456789abcdef0123456789abcdef", Owner: "another vmlet"}
	if err := w.hypervisor.Define(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	orphan := vm.Machine{SandboxID: "fedcba9876543210fedcba9876543210", Owner: w.store.Owner()}
	if err := w.hypervisor.Define(t.Context(), orphan); err != nil {
		t.Fatal(err)
	}
	w.restart()
	if _, there := w.hypervisor.Machine(other.SandboxID); !there {
		t.Error("another owner's domain was removed")
	}
	if _, there := w.hypervisor.Machine(orphan.SandboxID); there {
		t.Error("an orphan of ours was left")
	}
}

func TestOOMKillsOfAnEarlierBootAreNotThisOnes(t *testing.T) {
	w := newWorld(t)
	sb, c := w.running("a")
	w.cgroups.SetOOMKills(sb, 1)
	w.cgroups.FailNext("Remove", errdefs.ErrFailedPrecondition) // its group outlives it
	w.hypervisor.Kill(sb)
	if got := w.exit(c); got.Reason != vm.ReasonOOMKilled {
		t.Fatalf("exit = %+v", got)
	}
	c = w.created(sb, 1)
	if err := w.svc.StartContainer(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	w.hypervisor.Kill(sb)
	if got := w.exit(c); got.Reason != vm.ReasonKilled {
		t.Errorf("exit = %+v", got)
	}
}

// The log counts unless it is of an earlier boot, which had another container.
func TestAnEndIsTakenFromTheLogAlsoIfItIsAMomentBeforeTheRecordedStart(t *testing.T) {
	w := newWorld(t)
	sb := w.sandbox("a")
	c := w.created(sb, 0)
	created := w.container(c).CreatedAt
	if err := w.svc.StartContainer(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	w.die()
	w.hypervisor.Disconnect()
	w.hypervisor.SetClock(func() time.Time { return created.Truncate(time.Millisecond) })
	w.hypervisor.PowerOff(sb)
	w.hypervisor.Reconnect()
	w.start()
	if got := w.exit(c); got.Code != 0 || !got.At.Equal(created.Truncate(time.Millisecond)) {
		t.Errorf("exit = %+v", got)
	}
}

func TestAnExitThatCouldNotBeSettledIsSettledLater(t *testing.T) {
	w := newWorld(t)
	sb, c := w.running("a")
	w.hypervisor.FailNext("Domain", errors.New("internal error"))
	w.hypervisor.PowerOff(sb)
	if got := w.exit(c); got.Code != 0 {
		t.Errorf("exit = %+v", got)
	}
}

// TestAStartIsFinishedAlthoughTheDaemonEndsMeanwhile: undone by our own end, the start would
// fail for no reason of its own.
func TestAStartIsFinishedAlthoughTheDaemonEndsMeanwhile(t *testing.T) {
	w := newWorld(t)
	sb := w.sandbox("a")
	c := w.created(sb, 0)
	if _, err := w.store.Containers().Update(c, "test", func(c vm.Container) (vm.Container, error) {
		c.Status.State = vm.ContainerStarting
		return c, nil
	}); err != nil {
		t.Fatal(err)
	}
	release := w.hypervisor.Block("Start")
	w.ending(func(recovered <-chan error, end func()) {
		if err := w.hypervisor.WaitCall(t.Context(), "Start "+sb); err != nil {
			t.Fatal(err)
		}
		end()
		release()
		mustBe(t, <-recovered, context.Canceled)
	})
	w.start()
	if got := w.container(c).Status; got.State != vm.ContainerRunning {
		t.Errorf("status = %+v", got)
	}
	if n := count(w.hypervisor.Calls(), "Destroy "+sb); n != 0 {
		t.Errorf("the VM was destroyed %d times", n)
	}
}
