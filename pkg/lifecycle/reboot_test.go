// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

type rebootOutcome struct {
	did vm.Rebooted
	err error
}

// rebooting asks for a reboot and does not wait for it.
func (w *world) rebooting(ref string, req vm.RebootRequest) <-chan rebootOutcome {
	ended := make(chan rebootOutcome, 1)
	go func() {
		did, err := w.svc.Reboot(context.Background(), ref, req)
		ended <- rebootOutcome{did, err}
	}()
	synctest.Wait()
	return ended
}

// count is how often the hypervisor was asked for this.
func (w *world) count(call string) (n int) {
	for _, c := range w.hypervisor.Calls() {
		if c == call {
			n++
		}
	}
	return n
}

func (w *world) runsOn(c string) {
	w.t.Helper()
	if st := w.container(c).Status; st.State != vm.ContainerRunning || st.Reboot != nil {
		w.t.Errorf("the container is %s, with the intent %+v", st.State, st.Reboot)
	}
}

func TestReboot(t *testing.T) {
	for name, tc := range map[string]struct {
		req    vm.RebootRequest
		before func(w *world, sb string)
		during func(w *world, sb string)
		want   vm.Rebooted
		starts int
	}{
		"by the agent": {
			req:  vm.RebootRequest{Mode: vm.RebootAgent},
			want: vm.Rebooted{Mode: vm.RebootAgent, Was: "boot-0", Boot: "boot-1"}, starts: 1,
		},
		"by whatever there is": {
			want: vm.Rebooted{Mode: vm.RebootAgent, Was: "boot-0", Boot: "boot-1"}, starts: 1,
		},
		"by the power button, with an agent": {
			req:    vm.RebootRequest{Mode: vm.RebootACPI},
			during: func(w *world, sb string) { w.guest.Boot(sb) },
			want:   vm.Rebooted{Mode: vm.RebootACPI, Was: "boot-0", Boot: "boot-1"}, starts: 2,
		},
		"by whatever there is, without an agent": {
			before: func(w *world, sb string) { w.guest.SetSilent(sb, true) },
			want:   vm.Rebooted{Mode: vm.RebootACPI}, starts: 2,
		},
		"by a reset, with an agent": {
			req:    vm.RebootRequest{Mode: vm.RebootReset},
			during: func(w *world, sb string) { w.guest.Boot(sb) },
			want:   vm.Rebooted{Mode: vm.RebootReset, Was: "boot-0", Boot: "boot-1"}, starts: 1,
		},
		"by a reset, without an agent": {
			req:    vm.RebootRequest{Mode: vm.RebootReset},
			before: func(w *world, sb string) { w.guest.SetSilent(sb, true) },
			want:   vm.Rebooted{Mode: vm.RebootReset}, starts: 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				sb, c := w.running("a")
				if tc.before != nil {
					tc.before(w, sb)
				}
				ended := w.rebooting(c, tc.req)
				time.Sleep(3 * time.Second) // no agent tells a boot ID by then
				synctest.Wait()
				if tc.during != nil {
					tc.during(w, sb)
				}
				if got := <-ended; got.err != nil || got.did != tc.want {
					t.Errorf("%+v, want %+v", got, tc.want)
				}
				w.runsOn(c)
				if got := w.count("Start " + sb); got != tc.starts {
					t.Errorf("QEMU was started %d times, want %d", got, tc.starts)
				}
				if n := w.count("PowerButton " + sb); n > 1 {
					t.Errorf("the button was pressed %d times, and once would do", n)
				}
			})
		})
	}
}

func TestARebootWaitsForItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		_, c := w.running("a")
		began := time.Now()
		ended := w.rebooting(c, vm.RebootRequest{Mode: vm.RebootAgent, Delay: time.Minute})
		if got := <-ended; got.err != nil {
			t.Error(got.err)
		}
		if took := time.Since(began); took < time.Minute || took > 61*time.Second {
			t.Errorf("it took %s, with a delay of a minute", took)
		}
	})
}

// What follows an ACPI reboot that the guest ignored is a poweroff like any other.
func TestAnIgnoredRebootIsDisarmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.hypervisor.IgnorePowerButton()
		sb, c := w.running("a")
		got := <-w.rebooting(c, vm.RebootRequest{Mode: vm.RebootACPI, Wait: 5 * time.Second})
		mustBe(t, got.err, context.DeadlineExceeded)
		w.runsOn(c)
		pressed := w.count("PowerButton " + sb)
		time.Sleep(time.Minute)
		if now := w.count("PowerButton " + sb); now != pressed {
			t.Errorf("the button is pressed on: %d times, were %d at the deadline", now, pressed)
		}
		w.hypervisor.PowerOff(sb)
		if exit := w.exit(c); exit.Reason != vm.ReasonCompleted {
			t.Errorf("exit = %+v", exit)
		}
	})
}

// A reboot is no excuse for other ends.
func TestOtherEndsDuringAReboot(t *testing.T) {
	for name, tc := range map[string]struct {
		end    func(w *world, sb, c string)
		reason string
	}{
		"a panic": {func(w *world, sb, _ string) { w.hypervisor.Panic(sb) }, vm.ReasonGuestPanicked},
		"a kill":  {func(w *world, sb, _ string) { w.hypervisor.Kill(sb) }, vm.ReasonKilled},
		"a forced stop": {func(w *world, _, c string) {
			if err := w.svc.StopContainer(w.t.Context(), c, 0); err != nil {
				w.t.Error(err)
			}
		}, vm.ReasonKilled},
		"a stop that is obeyed": {func(w *world, sb, c string) {
			stopped := make(chan error, 1)
			go func() { stopped <- w.svc.StopContainer(w.t.Context(), c, time.Minute) }()
			synctest.Wait()
			w.hypervisor.PowerOff(sb)
			if err := <-stopped; err != nil {
				w.t.Error(err)
			}
		}, vm.ReasonCompleted},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.hypervisor.IgnorePowerButton()
				sb, c := w.running("a")
				ended := w.rebooting(c, vm.RebootRequest{Mode: vm.RebootACPI})
				tc.end(w, sb, c)
				mustBe(t, (<-ended).err, errdefs.ErrFailedPrecondition)
				if exit := w.exit(c); exit.Reason != tc.reason {
					t.Errorf("exit = %+v, want %s", exit, tc.reason)
				}
				if got := w.count("Start " + sb); got != 1 {
					t.Errorf("QEMU was started %d times", got)
				}
			})
		})
	}
}

func TestRebootsOfOneVM(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.hypervisor.IgnorePowerButton()
		sb, c := w.running("a")
		first := w.rebooting(c, vm.RebootRequest{Mode: vm.RebootACPI})
		second := w.rebooting(c, vm.RebootRequest{Mode: vm.RebootACPI})
		whatever := w.rebooting(c, vm.RebootRequest{})
		third := w.rebooting(sb, vm.RebootRequest{Mode: vm.RebootAgent})
		mustBe(t, (<-first).err, errdefs.ErrAborted)
		mustBe(t, (<-second).err, errdefs.ErrAborted)
		mustBe(t, (<-whatever).err, errdefs.ErrAborted)
		if got := <-third; got.err != nil || got.did.Boot != "boot-1" {
			t.Errorf("%+v", got)
		}
		w.runsOn(c)
		w.hypervisor.PowerOff(sb)
		w.exit(c)
	})
}

func TestARebootThatCannotBe(t *testing.T) {
	w := newWorld(t)
	sb, c := w.running("a")
	_, err := w.svc.Reboot(t.Context(), "default/none", vm.RebootRequest{})
	mustBe(t, err, errdefs.ErrNotFound)
	w.guest.SetSilent(sb, true)
	_, err = w.svc.Reboot(t.Context(), "default/a", vm.RebootRequest{Mode: vm.RebootAgent})
	mustBe(t, err, errdefs.ErrUnavailable)
	w.runsOn(c)
	if err := w.svc.Pause(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	_, err = w.svc.Reboot(t.Context(), c, vm.RebootRequest{})
	mustBe(t, err, errdefs.ErrFailedPrecondition)
	if err := w.svc.StopContainer(t.Context(), c, 0); err != nil {
		t.Fatal(err)
	}
	_, err = w.svc.Reboot(t.Context(), c, vm.RebootRequest{})
	mustBe(t, err, errdefs.ErrFailedPrecondition)
}

// A VM that cannot be booted again has ended, and says why; where libvirt is away it is tried until that is back.
func TestAGuestThatPoweredOffToRebootIsBootedAgainOrSaysWhyNot(t *testing.T) {
	t.Run("no network", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			sb, c := w.running("a")
			w.network.FailNext("Wire", errors.New("no such netns"))
			mustBe(t, (<-w.rebooting(c, vm.RebootRequest{Mode: vm.RebootACPI})).err, errdefs.ErrFailedPrecondition)
			if exit := w.exit(c); exit.Reason != vm.ReasonStartError || !strings.Contains(exit.Message, "no such netns") {
				t.Errorf("exit = %+v", exit)
			}
			if got := w.stateOf(sb); got != vm.DomainShutoff {
				t.Errorf("the domain is %s", got)
			}
		})
	})
	t.Run("no libvirt for a while", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			sb, c := w.running("a")
			w.guest.SetSilent(sb, true)
			w.network.FailNext("Wire", errdefs.ErrUnavailable)
			if got := <-w.rebooting(c, vm.RebootRequest{Mode: vm.RebootACPI}); got.err != nil {
				t.Error(got.err)
			}
			w.runsOn(c)
			if got := w.stateOf(sb); got != vm.DomainRunning {
				t.Errorf("the domain is %s", got)
			}
		})
	})
}

// What vmlet leaves at any step of a reboot, its next life finishes.
func TestARebootOutlivesTheDaemon(t *testing.T) {
	for name, tc := range map[string]struct {
		mode  vm.RebootMode
		meant func(w *world, sb string)
	}{
		"the guest powers off while nobody listens": {vm.RebootACPI, func(w *world, sb string) { w.hypervisor.PowerOff(sb) }},
		"the guest powers off later":                {vm.RebootACPI, func(*world, string) {}},
		"the guest reboots while nobody listens":    {vm.RebootAgent, func(w *world, sb string) { w.guest.PowerOff(sb) }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.hypervisor.IgnorePowerButton()
				w.guest.IgnoreReboot()
				sb, c := w.running("a")
				ended := w.rebooting(c, vm.RebootRequest{Mode: tc.mode})
				synctest.Wait()
				w.die()
				mustBe(t, (<-ended).err, errdefs.ErrUnavailable)
				tc.meant(w, sb)
				w.start()
				synctest.Wait()
				if w.stateOf(sb) == vm.DomainRunning && tc.mode == vm.RebootACPI && w.container(c).Status.Reboot != nil {
					w.hypervisor.PowerOff(sb)
				}
				synctest.Wait()
				if tc.mode == vm.RebootACPI {
					w.guest.Boot(sb)
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				w.runsOn(c)
				if got := w.stateOf(sb); got != vm.DomainRunning {
					t.Errorf("the domain is %s", got)
				}
				if tc.mode == vm.RebootACPI && w.count("Start "+sb) != 2 {
					t.Errorf("calls: %v", w.hypervisor.Calls())
				}
				time.Sleep(time.Hour)
				w.runsOn(c)
			})
		})
	}
}

func TestAPoweroffAfterTheDeadlineIsAnEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.hypervisor.IgnorePowerButton()
		sb, c := w.running("a")
		ended := w.rebooting(c, vm.RebootRequest{Mode: vm.RebootACPI, Wait: 10 * time.Second})
		w.die()
		mustBe(t, (<-ended).err, errdefs.ErrUnavailable)
		time.Sleep(time.Minute)
		w.hypervisor.PowerOff(sb)
		time.Sleep(time.Minute)
		w.start()
		if exit := w.exit(c); exit.Reason != vm.ReasonCompleted {
			t.Errorf("exit = %+v", exit)
		}
		if got := w.count("Start " + sb); got != 1 {
			t.Errorf("QEMU was started %d times", got)
		}
	})
}

// A command that a reboot ends is started again in the next boot: its end is not the container's.
func TestARebootEndsTheCommandAndNotTheContainer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.guest.IgnoreReboot()
		spec := containerSpec(0)
		spec.Command = []string{"serve"}
		sb, c := w.started("a", spec)
		time.Sleep(time.Hour) // longer than an agent is waited for
		ended := w.rebooting(c, vm.RebootRequest{Mode: vm.RebootAgent})
		w.guest.EndMain(sb, vm.MainExit{Code: 143, Signal: 15, At: time.Now()})
		time.Sleep(5 * time.Second)
		w.guest.Boot(sb)
		if got := <-ended; got.err != nil {
			t.Error(got.err)
		}
		time.Sleep(time.Minute)
		w.runsOn(c)
		w.guest.EndMain(sb, vm.MainExit{Code: 3, At: time.Now()})
		time.Sleep(time.Minute)
		if exit := w.exit(c); exit.Code != 3 {
			t.Errorf("exit = %+v", exit)
		}
	})
}

func TestPause(t *testing.T) {
	w := newWorld(t)
	sb, c := w.running("a")
	for range 2 {
		if err := w.svc.Pause(t.Context(), "default/a"); err != nil {
			t.Fatal(err)
		}
		if !w.container(c).Status.Paused || w.stateOf(sb) != vm.DomainPaused {
			t.Errorf("%+v", w.container(c).Status)
		}
	}
	_, err := w.svc.Exec(t.Context(), c, vm.ExecRequest{Command: []string{"true"}})
	mustBe(t, err, errdefs.ErrFailedPrecondition)
	w.restart()
	if !w.container(c).Status.Paused || w.stateOf(sb) != vm.DomainPaused {
		t.Errorf("after a restart of vmlet: %+v", w.container(c).Status)
	}
	for range 2 {
		if err := w.svc.Resume(t.Context(), sb); err != nil {
			t.Fatal(err)
		}
		if w.container(c).Status.Paused || w.stateOf(sb) != vm.DomainRunning {
			t.Errorf("%+v", w.container(c).Status)
		}
	}
	w.hypervisor.FailNext("Pause", errors.New("no"))
	if err := w.svc.Pause(t.Context(), c); err == nil || w.container(c).Status.Paused {
		t.Errorf("a pause that failed: %v, %+v", err, w.container(c).Status)
	}
}

// A guest that is paused hears of its stop.
func TestAStopOfAPausedVMIsGraceful(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.running("a")
		if err := w.svc.Pause(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if err := w.svc.StopContainer(t.Context(), c, time.Minute); err != nil {
			t.Fatal(err)
		}
		if exit := w.exit(c); exit.Reason != vm.ReasonCompleted {
			t.Errorf("exit = %+v", exit)
		}
		calls := w.hypervisor.Calls()
		if slices.Index(calls, "Resume "+sb) == len(calls)-1 {
			t.Errorf("calls: %v", calls)
		}
	})
}

func TestTheRecordOfAPauseThatWasNotDoneIsMended(t *testing.T) {
	w := newWorld(t)
	sb, c := w.running("a")
	if err := w.svc.Pause(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	w.die()
	if err := w.hypervisor.Resume(t.Context(), sb); err != nil {
		t.Fatal(err)
	}
	w.start()
	if w.container(c).Status.Paused {
		t.Error("the VM runs and is on record as paused")
	}
}

func TestTheVMOfAName(t *testing.T) {
	w := newWorld(t)
	sb, c := w.running("a")
	for _, ref := range []string{sb, c, sb[:12], c[:12], "default/a"} {
		if err := w.svc.Pause(t.Context(), ref); err != nil {
			t.Errorf("%s: %v", ref, err)
		}
	}
	spec := podSpec("a")
	spec.UID = "another"
	other, err := w.svc.RunSandbox(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	err = w.svc.Resume(t.Context(), "default/a")
	mustBe(t, err, errdefs.ErrInvalidArgument)
	if !strings.Contains(err.Error(), sb) || !strings.Contains(err.Error(), other) {
		t.Errorf("the candidates are not in %q", err)
	}
	if err := w.svc.StopSandbox(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	if err := w.svc.Resume(t.Context(), "default/a"); err != nil {
		t.Errorf("beside one that was stopped: %v", err)
	}
	for ref, class := range map[string]error{"": errdefs.ErrNotFound, "nobody": errdefs.ErrNotFound, "default/b": errdefs.ErrNotFound, other: errdefs.ErrFailedPrecondition} {
		mustBe(t, w.svc.Resume(t.Context(), ref), class)
	}
}

// A boot by another QEMU is prepared as the first one was.
func TestABootAgainHasItsCgroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.running("a")
		w.guest.SetSilent(sb, true)
		before := len(w.cgroups.Calls())
		if got := <-w.rebooting(c, vm.RebootRequest{Mode: vm.RebootACPI}); got.err != nil {
			t.Fatal(got.err)
		}
		calls := slices.DeleteFunc(w.cgroups.Calls()[before:], func(c string) bool { return strings.HasPrefix(c, "Usage") })
		for i, want := range []string{"Remove", "Create", "Place"} {
			if i >= len(calls) || !strings.HasPrefix(calls[i], want) {
				t.Fatalf("calls %v, want a removal, a creation and QEMU in it", calls)
			}
		}
	})
}

// What was seen before the guest was asked is not its answer.
func TestAnEarlierRebootIsNotTheOneThatWasAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.hypervisor.IgnorePowerButton()
		sb, c := w.running("a")
		w.guest.SetSilent(sb, true)
		ended := w.rebooting(c, vm.RebootRequest{Mode: vm.RebootACPI, Delay: time.Hour})
		w.hypervisor.Reboot(sb)
		time.Sleep(time.Hour + 10*time.Second)
		w.hypervisor.Reboot(sb)
		synctest.Wait()
		select {
		case got := <-ended:
			t.Errorf("%+v", got)
		default:
		}
		w.hypervisor.PowerOff(sb)
		if got := <-ended; got.err != nil {
			t.Error(got.err)
		}
		w.runsOn(c)
		if got := w.count("Start " + sb); got != 2 {
			t.Errorf("QEMU was started %d times", got)
		}
	})
}

func TestAnAgentThatSaysYesAndDoesNothingHasNotRebooted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.guest.IgnoreReboot()
		sb, c := w.running("a")
		w.guest.SetForeign(sb)
		ended := w.rebooting(c, vm.RebootRequest{Mode: vm.RebootAgent, Delay: time.Hour, Wait: 10 * time.Second})
		w.hypervisor.Reboot(sb) // by itself, before it was asked
		mustBe(t, (<-ended).err, context.DeadlineExceeded)
	})
}

// A guest that was asked by the button may obey it although another way was tried since.
func TestAButtonThatWasPressedIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.hypervisor.IgnorePowerButton()
		w.guest.IgnoreReboot()
		sb, c := w.running("a")
		first := w.rebooting(c, vm.RebootRequest{Mode: vm.RebootACPI})
		second := w.rebooting(c, vm.RebootRequest{Mode: vm.RebootAgent})
		mustBe(t, (<-first).err, errdefs.ErrAborted)
		w.hypervisor.PowerOff(sb)
		synctest.Wait()
		w.guest.Boot(sb)
		if got := <-second; got.err != nil {
			t.Error(got.err)
		}
		w.runsOn(c)
	})
}

// Nothing of a VM that is being booted again is another call's to change, but for its end.
func TestAVMThatIsBeingBootedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.running("a")
		for range 3 {
			w.network.FailNext("Wire", errdefs.ErrUnavailable)
		}
		ended := w.rebooting(c, vm.RebootRequest{Mode: vm.RebootACPI, Wait: time.Second})
		mustBe(t, (<-ended).err, context.DeadlineExceeded)
		_, err := w.svc.Reboot(t.Context(), c, vm.RebootRequest{Mode: vm.RebootReset})
		mustBe(t, err, errdefs.ErrUnavailable)
		mustBe(t, w.svc.Resume(t.Context(), c), errdefs.ErrUnavailable)
		if err := w.svc.StopContainer(t.Context(), c, 0); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		w.exit(c)
		if got := w.stateOf(sb); got != vm.DomainShutoff {
			t.Errorf("the domain is %s", got)
		}
	})
}

func TestTheEndOfACommandIsHeardAlsoWhereAnIntentWasLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.guest.IgnoreReboot()
		sb := w.sandbox("a") // not by started: its guest powers off by libvirt, which goes away here
		spec := containerSpec(0)
		spec.Command = []string{"work"}
		c, err := w.svc.CreateContainer(t.Context(), sb, spec)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.svc.StartContainer(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		ended := w.rebooting(c, vm.RebootRequest{Mode: vm.RebootAgent, Wait: 10 * time.Second})
		w.hypervisor.Disconnect() // whether the guest has powered off is not known
		mustBe(t, (<-ended).err, context.DeadlineExceeded)
		w.guest.EndMain(sb, vm.MainExit{Code: 3, At: time.Now()})
		time.Sleep(time.Minute)
		if st := w.container(c).Status; st.MainExit == nil || st.MainExit.Code != 3 {
			t.Errorf("the end of the command is not on record: %+v", st)
		}
		w.hypervisor.Reconnect()
		time.Sleep(5 * time.Minute)
		if exit := w.exit(c); exit.Code != 3 {
			t.Errorf("exit = %+v", exit)
		}
	})
}

func TestAPauseThatIsRepeatedAndFailsLeavesThePause(t *testing.T) {
	w := newWorld(t)
	sb, c := w.running("a")
	if err := w.svc.Pause(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	w.hypervisor.FailNext("Pause", errors.New("no"))
	if err := w.svc.Pause(t.Context(), c); err == nil {
		t.Error("no error")
	}
	if !w.container(c).Status.Paused || w.stateOf(sb) != vm.DomainPaused {
		t.Errorf("%+v, the domain is %s", w.container(c).Status, w.stateOf(sb))
	}
}

func TestAPausedGuestWhoseDiskFailedStaysPaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.running("a")
		w.hypervisor.IOError(sb)
		if err := w.svc.Pause(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		w.afterRests(sb, time.Minute, vm.DomainPaused)
		if err := w.svc.Resume(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		w.afterRests(sb, time.Minute, vm.DomainRunning)
	})
}
