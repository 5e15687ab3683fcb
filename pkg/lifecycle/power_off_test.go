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

	"github.com/vmlet/vmlet/pkg/annotations"
	"github.com/vmlet/vmlet/pkg/vm"
)

type powerOffOutcome struct {
	did vm.PoweredOff
	err error
}

// poweringOff asks for a poweroff and does not wait for it.
func (w *world) poweringOff(ref string, req vm.PowerOffRequest) <-chan powerOffOutcome {
	ended := make(chan powerOffOutcome, 1)
	go func() {
		did, err := w.svc.PowerOff(context.Background(), ref, req)
		ended <- powerOffOutcome{did, err}
	}()
	synctest.Wait()
	return ended
}

// off powers a VM off.
func (w *world) off(ref string) {
	w.t.Helper()
	if got := <-w.poweringOff(ref, vm.PowerOffRequest{}); got.err != nil || got.did != (vm.PoweredOff{Policy: vm.PowerOffHeld}) {
		w.t.Fatalf("%+v", got)
	}
}

// on powers a VM on, whose guest boots anew.
func (w *world) on(ref, sandbox string) {
	w.t.Helper()
	w.guest.PowerOff(sandbox)
	w.must(w.svc.PowerOn(w.t.Context(), ref, vm.PowerOnRequest{}))
}

// isOff proves that a VM is off and its container held.
func (w *world) isOff(sandbox, c string) {
	w.t.Helper()
	if st := w.container(c).Status; st.State != vm.ContainerRunning || !st.Off() || st.PowerOff.Booting {
		w.t.Errorf("the container is %s, with %+v", st.State, st.PowerOff)
	}
	if got := w.stateOf(sandbox); got != vm.DomainShutoff {
		w.t.Errorf("the domain is %s", got)
	}
	if groups := w.cgroups.Groups(); len(groups) != 0 {
		w.t.Errorf("it has the cgroups %v", groups)
	}
	if ids := w.guest.Connected(); len(ids) != 0 {
		w.t.Errorf("the agents of %v are still listened to", ids)
	}
}

// isOn proves that a VM runs, and nothing of a poweroff is left.
func (w *world) isOn(sandbox, c string) {
	w.t.Helper()
	if st := w.container(c).Status; st.State != vm.ContainerRunning || st.PowerOff != nil {
		w.t.Errorf("the container is %s, with %+v", st.State, st.PowerOff)
	}
	if got := w.stateOf(sandbox); got != vm.DomainRunning {
		w.t.Errorf("the domain is %s", got)
	}
}

// exiting makes a pod whose container ends with a poweroff.
func (w *world) exiting(name string) (sandboxID, containerID string) {
	w.t.Helper()
	spec := podSpec(name)
	spec.Annotations = map[string]string{annotations.PowerOff: string(vm.PowerOffExits)}
	sandboxID, err := w.svc.RunSandbox(w.t.Context(), spec)
	w.must(err)
	containerID = w.created(sandboxID, 0)
	w.must(w.svc.StartContainer(w.t.Context(), containerID))
	return sandboxID, containerID
}

func TestPowerOffAndOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.running("a")
		for range 2 { // one that is off is a success
			w.off("default/a")
			w.isOff(sb, c)
		}
		w.restart()
		w.hypervisor.Disconnect()
		w.hypervisor.Reconnect()
		time.Sleep(time.Minute)
		w.isOff(sb, c)
		for range 2 {
			w.on(c, sb)
			w.isOn(sb, c)
		}
		if got := w.count("Start " + sb); got != 2 {
			t.Errorf("QEMU was started %d times", got)
		}
		if got, err := w.svc.Exec(t.Context(), c, vm.ExecRequest{Command: []string{"true"}}); err != nil || got.ExitCode != 0 {
			t.Errorf("in the guest that was powered on: %+v, %v", got, err)
		}
		w.hypervisor.PowerOff(sb)
		if exit := w.exit(c); exit.Reason != vm.ReasonCompleted {
			t.Errorf("a poweroff in the guest: %+v", exit)
		}
	})
}

func TestPowerOnPaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.running("a")
		mustBe(t, w.svc.PowerOn(t.Context(), sb, vm.PowerOnRequest{Paused: true}), errdefs.ErrFailedPrecondition)
		w.off(sb)
		events := w.watch(sb, "")
		defer events.stop(t)
		synctest.Wait()
		w.guest.SetSilent(sb, true)
		for range 2 {
			w.must(w.svc.PowerOn(t.Context(), sb, vm.PowerOnRequest{Paused: true}))
			if st := w.container(c).Status; !st.Paused || st.PowerOff != nil || w.stateOf(sb) != vm.DomainPaused {
				t.Errorf("%+v, the domain is %s", st, w.stateOf(sb))
			}
		}
		events.want(t, "a is powered-off", "synced", "a running", "a paused")
		w.must(w.svc.Resume(t.Context(), sb))
		w.isOn(sb, c)
	})
}

func TestHowAPowerOffIsDone(t *testing.T) {
	for name, tc := range map[string]struct {
		deaf   bool
		req    vm.PowerOffRequest
		paused bool
		forced bool
		within time.Duration
		err    error
	}{
		"a guest that obeys":                 {within: time.Second},
		"a guest that does not":              {deaf: true, req: vm.PowerOffRequest{Wait: 10 * time.Second}, err: context.DeadlineExceeded, within: 10 * time.Second},
		"a guest that does not, then forced": {deaf: true, req: vm.PowerOffRequest{Mode: vm.PowerOffGuestThenForce, Wait: 10 * time.Second}, forced: true, within: 10 * time.Second},
		"one that obeys, else forced":        {req: vm.PowerOffRequest{Mode: vm.PowerOffGuestThenForce}, within: time.Second},
		"forced":                             {deaf: true, req: vm.PowerOffRequest{Mode: vm.PowerOffForce}, forced: true, within: time.Second},
		"one that is paused, forced":         {paused: true, req: vm.PowerOffRequest{Mode: vm.PowerOffForce}, forced: true, within: time.Second},
		"one that is paused":                 {paused: true, err: errdefs.ErrFailedPrecondition, within: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				if tc.deaf {
					w.hypervisor.IgnorePowerButton()
				}
				sb, c := w.running("a")
				if tc.paused {
					w.must(w.svc.Pause(t.Context(), c))
				}
				began := time.Now()
				got := <-w.poweringOff(c, tc.req)
				if took := time.Since(began); took > tc.within {
					t.Errorf("it took %s", took)
				}
				if tc.err == nil {
					if got.err != nil || got.did != (vm.PoweredOff{Policy: vm.PowerOffHeld, Forced: tc.forced}) {
						t.Errorf("%+v", got)
					}
					w.isOff(sb, c)
					return
				}
				mustBe(t, got.err, tc.err)
				if st := w.container(c).Status; st.PowerOff != nil || st.State != vm.ContainerRunning {
					t.Errorf("what is left: %+v", st)
				}
			})
		})
	}
}

// Nothing stays armed of a poweroff that the guest ignored, and nobody presses its button any more.
func TestAnIgnoredPowerOffIsDisarmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.hypervisor.IgnorePowerButton()
		sb, c := w.running("a")
		mustBe(t, (<-w.poweringOff(c, vm.PowerOffRequest{Wait: 5 * time.Second})).err, context.DeadlineExceeded)
		pressed := w.count("PowerButton " + sb)
		time.Sleep(time.Minute)
		if now := w.count("PowerButton " + sb); now != pressed || pressed < 2 {
			t.Errorf("the button was pressed %d times, %d by the deadline", now, pressed)
		}
		w.hypervisor.PowerOff(sb)
		if exit := w.exit(c); exit.Reason != vm.ReasonCompleted {
			t.Errorf("exit = %+v", exit)
		}
	})
}

func TestAPowerOffIsHurried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.hypervisor.IgnorePowerButton()
		sb, c := w.running("a")
		first := w.poweringOff(c, vm.PowerOffRequest{})
		second := w.poweringOff(sb, vm.PowerOffRequest{Wait: time.Hour})
		mustBe(t, w.svc.PowerOn(t.Context(), c, vm.PowerOnRequest{}), errdefs.ErrFailedPrecondition)
		began := time.Now()
		third := w.poweringOff(sb, vm.PowerOffRequest{Mode: vm.PowerOffForce})
		for _, one := range []<-chan powerOffOutcome{first, second, third} {
			if got := <-one; got.err != nil || !got.did.Forced {
				t.Errorf("%+v", got)
			}
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("it took %s", took)
		}
		w.isOff(sb, c)
	})
}

// A poweroff is no excuse for other ends.
func TestOtherEndsDuringAPowerOff(t *testing.T) {
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
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.hypervisor.IgnorePowerButton()
				sb, c := w.running("a")
				ended := w.poweringOff(c, vm.PowerOffRequest{Mode: vm.PowerOffGuestThenForce})
				tc.end(w, sb, c)
				mustBe(t, (<-ended).err, errdefs.ErrFailedPrecondition)
				if exit := w.exit(c); exit.Reason != tc.reason {
					t.Errorf("exit = %+v, want %s", exit, tc.reason)
				}
			})
		})
	}
}

// What vmlet leaves at any step of a poweroff, its next life finishes.
func TestAPowerOffOutlivesTheDaemon(t *testing.T) {
	for name, tc := range map[string]struct {
		mode      vm.PowerOffMode
		away      func(w *world, sb string)
		after     time.Duration
		off, over bool
	}{
		"the guest powers off while nobody listens":           {vm.PowerOffGuest, func(w *world, sb string) { w.hypervisor.PowerOff(sb) }, 0, true, false},
		"and after the deadline, which is its own end":        {vm.PowerOffGuest, func(w *world, sb string) { time.Sleep(time.Hour); w.hypervisor.PowerOff(sb) }, 0, false, true},
		"the guest does nothing, and is asked on":             {vm.PowerOffGuest, func(*world, string) {}, time.Hour, false, false},
		"the guest does nothing, and its plug is pulled":      {vm.PowerOffGuestThenForce, func(*world, string) {}, time.Hour, true, false},
		"the deadline passes with nobody there, and it is so": {vm.PowerOffGuestThenForce, func(*world, string) { time.Sleep(time.Hour) }, time.Second, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.hypervisor.IgnorePowerButton()
				sb, c := w.running("a")
				ended := w.poweringOff(c, vm.PowerOffRequest{Mode: tc.mode})
				w.die()
				mustBe(t, (<-ended).err, errdefs.ErrUnavailable)
				tc.away(w, sb)
				w.start()
				time.Sleep(tc.after)
				synctest.Wait()
				switch {
				case tc.off:
					w.isOff(sb, c)
				case tc.over:
					if exit := w.exit(c); exit.Reason != vm.ReasonCompleted {
						t.Errorf("exit = %+v", exit)
					}
				default:
					w.isOn(sb, c)
				}
			})
		})
	}
}

func TestAPolicyOfExits(t *testing.T) {
	for _, mode := range []vm.PowerOffMode{vm.PowerOffGuest, vm.PowerOffForce} {
		t.Run(string(mode), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				sb, c := w.exiting("a")
				for i := range 2 {
					got := <-w.poweringOff(sb, vm.PowerOffRequest{Mode: mode})
					if got.err != nil || got.did.Policy != vm.PowerOffExits || i == 0 && got.did.Forced != (mode == vm.PowerOffForce) {
						t.Fatalf("%+v", got)
					}
				}
				want := map[vm.PowerOffMode]int32{vm.PowerOffGuest: 0, vm.PowerOffForce: 137}[mode]
				if exit := w.exit(c); exit.Reason != vm.ReasonPoweredOff || exit.Code != want {
					t.Errorf("exit = %+v", exit)
				}
				err := w.svc.PowerOn(t.Context(), sb, vm.PowerOnRequest{})
				w.refuses(err, errdefs.ErrFailedPrecondition, annotations.PowerOff+": held")
				// Another container is the way on, on the same disk.
				next := w.created(sb, 1)
				w.must(w.svc.StartContainer(t.Context(), next))
				w.isOn(sb, next)
			})
		})
	}
}

// A command that a poweroff ends is started again when its VM is powered on: its end is not the container's.
func TestAPowerOffEndsTheCommandAndNotTheContainer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.hypervisor.IgnorePowerButton()
		spec := containerSpec(0)
		spec.Command = []string{"serve"}
		sb, c := w.started("a", spec)
		time.Sleep(time.Hour) // longer than an agent is waited for
		ended := w.poweringOff(c, vm.PowerOffRequest{})
		w.guest.EndMain(sb, vm.MainExit{Code: 143, Signal: 15, At: time.Now()})
		time.Sleep(5 * time.Second)
		w.hypervisor.PowerOff(sb)
		if got := <-ended; got.err != nil {
			t.Fatal(got.err)
		}
		w.isOff(sb, c)
		time.Sleep(time.Hour)
		w.on(sb, sb)
		time.Sleep(time.Minute)
		if w.guest.Main(sb) == nil {
			t.Error("the command was not started again")
		}
		w.guest.EndMain(sb, vm.MainExit{Code: 3, At: time.Now()})
		time.Sleep(time.Minute)
		if exit := w.exit(c); exit.Code != 3 {
			t.Errorf("exit = %+v", exit)
		}
	})
}

// What needs a guest is refused, and says so.
func TestWhatAVMThatIsOffCannotDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.running("a")
		w.off(sb)
		ctx := t.Context()
		_, exec := w.svc.Exec(ctx, c, vm.ExecRequest{Command: []string{"true"}})
		_, reboot := w.svc.Reboot(ctx, c, vm.RebootRequest{Mode: vm.RebootReset})
		_, info := w.svc.GuestInfo(ctx, sb)
		_, shot := w.svc.Screenshot(ctx, sb)
		_, console := w.svc.Console(ctx, sb, vm.ConsoleRequest{}, vm.ConsoleClient{})
		_, memory := w.take(sb, "m", true)
		_, size := w.svc.Resize(ctx, sb, vm.ResizeRequest{SizeAsk: vm.SizeAsk{VCPUs: 2}})
		for what, err := range map[string]error{
			"exec": exec, "reboot": reboot, "info": info, "screenshot": shot, "console": console, "resize": size,
			"pause": w.svc.Pause(ctx, c), "resume": w.svc.Resume(ctx, c), "attach": w.svc.Attach(ctx, c, vm.Streams{}),
			"forward": w.svc.PortForward(ctx, sb, 80, nil),
		} {
			if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "powered off; power it on first") {
				t.Errorf("%s: %v", what, err)
			}
		}
		w.refuses(memory, errdefs.ErrFailedPrecondition, "no VM runs")
		w.must(w.svc.ReopenLog(ctx, c))
		if got := w.count("Pause " + sb); got != 0 {
			t.Error("it was paused")
		}
	})
}

// Snapshots, disks and NICs of a VM that is off are those of its next boot.
func TestWhatChangesWhileAVMIsOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.running("a")
		w.off(sb)
		info, err := w.take(sb, "off", false)
		w.must(err)
		if info.Consistency != vm.ConsistencyOff || info.Machine != vm.DomainShutoff {
			t.Errorf("%+v", info)
		}
		w.must(w.svc.RestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: "off"}))
		_, err = w.svc.AttachDisk(t.Context(), sb, "data", vm.DataDiskSpec{Size: vm.GiB})
		w.must(err)
		if nic, err := w.svc.AttachNIC(t.Context(), sb, vm.NICSpec{Name: "eth1"}, nil); err != nil || nic.Guest != vm.NICGuestNotRunning {
			t.Errorf("%+v, %v", nic, err)
		}
		w.isOff(sb, c)
		w.restart()
		w.isOff(sb, c)
		w.on(sb, sb)
		w.isOn(sb, c)
		m, _ := w.hypervisor.Machine(sb)
		if len(m.NICs) != 2 || !slices.ContainsFunc(m.Disks, func(d vm.MachineDisk) bool { return d.Serial == "data" }) {
			t.Errorf("the machine has %+v and %+v", m.NICs, m.Disks)
		}
		root, err := w.store.Sandboxes().Get(sb)
		w.must(err)
		if m.Disks[0].Path != root.Status.Disks[0].Path {
			t.Errorf("it boots from %s, and its disk is %s", m.Disks[0].Path, root.Status.Disks[0].Path)
		}
	})
}

func TestAContainerThatIsHeldEndsAtOnce(t *testing.T) {
	for name, end := range map[string]func(w *world, sb, c string) error{
		"stop":           func(w *world, _, c string) error { return w.svc.StopContainer(w.t.Context(), c, time.Hour) },
		"remove":         func(w *world, _, c string) error { return w.svc.RemoveContainer(w.t.Context(), c) },
		"stop the pod":   func(w *world, sb, _ string) error { return w.svc.StopSandbox(w.t.Context(), sb) },
		"remove the pod": func(w *world, sb, _ string) error { return w.svc.RemoveSandbox(w.t.Context(), sb) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				sb, c := w.running("a")
				w.off(sb)
				began := time.Now()
				w.must(end(w, sb, c))
				if took := time.Since(began); took > time.Second {
					t.Errorf("it took %s", took)
				}
				if got, err := w.svc.Container(c); err == nil && (got.Status.State != vm.ContainerExited || got.Status.Exit.Reason != vm.ReasonPoweredOff) {
					t.Errorf("%+v", got.Status)
				}
				w.must(w.svc.RemoveSandbox(t.Context(), sb))
				w.nothingLeft()
			})
		})
	}
}

// After a power on that fails the VM is off as before; one that vmlet's end cuts short is finished.
func TestAPowerOnThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.running("a")
		w.off(sb)
		w.network.FailNext("Wire", errors.New("no such netns"))
		err := w.svc.PowerOn(t.Context(), sb, vm.PowerOnRequest{})
		if err == nil || !strings.Contains(err.Error(), "no such netns") {
			t.Errorf("%v", err)
		}
		w.isOff(sb, c)
		w.on(sb, sb)
		w.isOn(sb, c)
	})
}

func TestAPowerOnGoesOnWhenLibvirtIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.running("a")
		w.off(sb)
		w.network.FailNext("Wire", errdefs.ErrUnavailable)
		w.hypervisor.FailNext("Destroy", errdefs.ErrUnavailable)
		mustBe(t, w.svc.PowerOn(t.Context(), sb, vm.PowerOnRequest{}), errdefs.ErrUnavailable)
		time.Sleep(time.Minute)
		w.isOn(sb, c)
	})
}

// Somebody else's start of a VM that is off is none of ours: it has no network.
func TestAVMThatIsOffStaysOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.running("a")
		w.off(sb)
		w.must(w.hypervisor.Start(t.Context(), sb))
		w.restart()
		w.isOff(sb, c)
		w.must(w.hypervisor.Start(t.Context(), sb))
		w.hypervisor.Reconnect()
		time.Sleep(time.Second)
		w.isOff(sb, c)
	})
}

func TestAPowerOffIsWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.running("a")
		synctest.Wait()
		events := w.watch(sb, "")
		defer events.stop(t)
		synctest.Wait()
		w.off(sb)
		events.want(t, "a is running", "synced", "a agent-down boot-0", "a powered-off")
		w.on(sb, sb)
		events.want(t, "a is running", "synced", "a agent-down boot-0", "a powered-off", "a running", "a agent-up boot-1")
	})
}

func TestThereAreStatisticsOfAVMThatIsOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.running("a")
		w.off(sb)
		for range 2 {
			time.Sleep(10 * time.Second)
			st, err := w.svc.Stats(c)
			if err != nil || st.MemoryUsage != 0 || st.CPUUsage != 0 || st.DiskUsed == 0 || len(st.NICs) == 0 {
				t.Errorf("%+v, %v", st, err)
			}
			w.restart()
		}
	})
}

func TestAPlugIsPulledWhenLibvirtIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.running("a")
		w.hypervisor.FailNext("Destroy", errdefs.ErrUnavailable)
		mustBe(t, (<-w.poweringOff(c, vm.PowerOffRequest{Mode: vm.PowerOffForce})).err, errdefs.ErrUnavailable)
		time.Sleep(time.Minute)
		w.isOff(sb, c)
		w.on(sb, sb)
		w.isOn(sb, c)
	})
}

// After a reboot of the host there is no network to power a VM on in: its container ends, also where a power on was under way.
func TestAHostRebootEndsWhatIsHeld(t *testing.T) {
	for name, begun := range map[string]bool{"off": false, "being powered on": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				sb, c := w.running("a")
				w.off(sb)
				if begun {
					for range 2 { // by the call, and in the background
						w.network.FailNext("Wire", errdefs.ErrUnavailable)
						w.hypervisor.FailNext("Destroy", errdefs.ErrUnavailable)
					}
					mustBe(t, w.svc.PowerOn(t.Context(), sb, vm.PowerOnRequest{}), errdefs.ErrUnavailable)
					synctest.Wait()
					if !w.container(c).Status.PowerOff.Booting {
						t.Fatal("no power on is under way")
					}
				}
				w.die()
				w.hypervisor.RebootHost()
				w.network.LoseNetNS(sb)
				w.start()
				time.Sleep(5 * time.Minute)
				if exit := w.exit(c); exit.Reason != vm.ReasonPoweredOff {
					t.Errorf("exit = %+v", exit)
				}
				w.must(w.svc.RemoveSandbox(t.Context(), sb))
				w.nothingLeft()
			})
		})
	}
}
