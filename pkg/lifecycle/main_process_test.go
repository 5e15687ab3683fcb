// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vmlet/vmlet/pkg/vm"
)

func commandSpec() vm.ContainerSpec {
	spec := containerSpec(0)
	spec.Command, spec.Args = []string{"/bin/job"}, []string{"--once"}
	spec.Env = []vm.EnvVar{{Name: "A", Value: "b"}}
	spec.WorkingDir = "/srv"
	spec.Security = &vm.Security{User: "7", Capabilities: []string{}}
	spec.LogPath = "/logs/job"
	return spec
}

// started makes a sandbox with a running container of this spec. The guest of a command
// powers off when its end was acknowledged.
func (w *world) started(name string, spec vm.ContainerSpec) (sandboxID, containerID string) {
	w.t.Helper()
	w.guest.SetAck(w.powerOff)
	sandboxID = w.sandbox(name)
	containerID, err := w.svc.CreateContainer(w.t.Context(), sandboxID, spec)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.svc.StartContainer(w.t.Context(), containerID); err != nil {
		w.t.Fatal(err)
	}
	return sandboxID, containerID
}

func (w *world) powerOff(sandboxID string) {
	w.guest.PowerOff(sandboxID)
	if w.active(sandboxID) {
		w.hypervisor.PowerOff(sandboxID)
	}
}

// await returns once something is so in a guest.
func (w *world) await(what string, so func() bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	if err := w.guest.Await(ctx, what, so); err != nil {
		w.t.Fatal(err)
	}
}

// called returns once an agent was asked this.
func (w *world) called(call string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	if err := w.guest.WaitCall(ctx, call); err != nil {
		w.t.Fatalf("%s: %v", call, err)
	}
}

// mainRuns waits until the command was started in the guest's present boot and that is on
// record.
func (w *world) mainRuns(sandboxID, containerID string) vm.Main {
	w.t.Helper()
	w.await("the command runs", func() bool { return w.guest.Main(sandboxID) != nil })
	w.called("WaitMain " + sandboxID)
	if !w.container(containerID).Status.MainStarted {
		w.t.Error("the start of the command is not on record")
	}
	return *w.guest.Main(sandboxID)
}

func TestACommandsEndIsTheContainers(t *testing.T) {
	began := time.Now()
	for name, tc := range map[string]struct {
		exit    vm.MainExit
		code    int32
		reason  string
		message string
	}{
		"success":                         {vm.MainExit{At: time.Now()}, 0, vm.ReasonCompleted, ""},
		"failure":                         {vm.MainExit{Code: 3, At: time.Now()}, 3, vm.ReasonError, ""},
		"signal":                          {vm.MainExit{Code: 143, Signal: 15, At: time.Now()}, 143, vm.ReasonError, ""},
		"memory":                          {vm.MainExit{Code: 137, Signal: 9, OOMKilled: true, At: time.Now()}, 137, vm.ReasonOOMKilled, "out of memory"},
		"not found":                       {vm.MainExit{Code: 127, StartError: "no such file", At: time.Now()}, 127, vm.ReasonStartError, "no such file"},
		"a guest with a clock of its own": {vm.MainExit{Code: 1, At: time.Unix(7, 0)}, 1, vm.ReasonError, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			sb, c := w.started("a", commandSpec())
			w.mainRuns(sb, c)
			w.guest.EndMain(sb, tc.exit)
			got := w.exit(c)
			if got.Code != tc.code || got.Reason != tc.reason || !strings.Contains(got.Message, tc.message) {
				t.Errorf("exit = %+v, want %d %s %q", got, tc.code, tc.reason, tc.message)
			}
			if got.At.Before(began) || got.At.After(time.Now()) {
				t.Errorf("it ended at %s", got.At)
			}
			if err := w.svc.RemoveSandbox(t.Context(), sb); err != nil {
				t.Fatal(err)
			}
			w.nothingLeft()
		})
	}
}

func TestACommandGetsWhatItsContainerWasGiven(t *testing.T) {
	w := newWorld(t)
	spec := commandSpec()
	spec.Stdin, spec.StdinOnce, spec.TTY = true, true, true
	sb, c := w.started("a", spec)
	m := w.mainRuns(sb, c)
	if m.ID != c || !m.Stdin || !m.StdinOnce {
		t.Errorf("main = %+v", m)
	}
	p := m.Process
	if !slices.Equal(p.Args, []string{"/bin/job", "--once"}) || !slices.Equal(p.Env, spec.Env) ||
		p.WorkingDir != "/srv" || p.Security != nil && p.Security.User != "7" || !p.TTY || p.Namespace != c {
		t.Errorf("process = %+v", p)
	}
	machine, _ := w.hypervisor.Machine(sb)
	if machine.OutputSpool != w.node.OutputSpool(sb, c) || machine.AgentSocket != w.node.AgentSocket(sb) {
		t.Errorf("ports = %q, %q", machine.OutputSpool, machine.AgentSocket)
	}
	w.consoles.Print(machine.ConsoleSpool, "booting\n")
	w.consoles.Print(machine.OutputSpool, "working\n")
	if log := w.consoles.Log(spec.LogPath); log != "working\n" {
		t.Errorf("log = %q", log)
	}
}

func TestArgumentsAloneAreACommandAndWithoutBothTheMachineJustBoots(t *testing.T) {
	w := newWorld(t)
	spec := commandSpec()
	spec.Command = nil
	sb, c := w.started("a", spec)
	if m := w.mainRuns(sb, c); !slices.Equal(m.Process.Args, []string{"--once"}) {
		t.Errorf("args = %q", m.Process.Args)
	}
	sb, _ = w.running("b")
	w.called("Setup " + sb)
	machine, _ := w.hypervisor.Machine(sb)
	if w.guest.Main(sb) != nil || machine.OutputSpool != "" {
		t.Error("a machine without a command has one")
	}
}

func TestAnEndIsOnRecordBeforeTheAgentForgetsIt(t *testing.T) {
	w := newWorld(t)
	sb, c := w.started("a", commandSpec())
	w.mainRuns(sb, c)
	seen := make(chan *vm.MainExit, 1)
	w.guest.SetAck(func(id string) {
		seen <- w.container(c).Status.MainExit
		w.powerOff(id)
	})
	w.guest.EndMain(sb, vm.MainExit{Code: 5})
	select {
	case exit := <-seen:
		if exit == nil || exit.Code != 5 {
			t.Errorf("acknowledged with %+v on record", exit)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it was not acknowledged")
	}
	w.exit(c)
}

func TestAnExitOutlivesTheDaemonAtEveryMoment(t *testing.T) {
	for name, tc := range map[string]func(w *world, sb, c string){
		"it ended while nobody listened": func(w *world, sb, _ string) {
			w.die()
			w.guest.EndMain(sb, vm.MainExit{Code: 42})
		},
		"its record was not written": func(w *world, sb, _ string) {
			unlock := w.hypervisor.Block("AwaitExit") // the first thing after the record
			defer unlock()
			w.guest.EndMain(sb, vm.MainExit{Code: 42})
			w.die()
		},
		"it was not acknowledged": func(w *world, sb, c string) {
			defer w.guest.Block("AckMain")()
			w.guest.EndMain(sb, vm.MainExit{Code: 42})
			w.called("AckMain " + sb)
			w.die()
		},
		"the guest went off unheard": func(w *world, sb, _ string) {
			forgotten := make(chan struct{})
			w.guest.SetAck(func(string) { close(forgotten) })
			w.guest.EndMain(sb, vm.MainExit{Code: 42})
			<-forgotten
			w.die()
			w.hypervisor.Disconnect()
			w.guest.PowerOff(sb)
			w.hypervisor.PowerOff(sb)
			w.hypervisor.Reconnect()
		},
		"its agent forgot it, and the guest is still there": func(w *world, sb, _ string) {
			forgotten := make(chan struct{})
			w.guest.SetAck(func(string) { close(forgotten) })
			w.guest.SetShutdown(w.powerOff)
			w.guest.EndMain(sb, vm.MainExit{Code: 42})
			<-forgotten
			w.die()
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			sb, c := w.started("a", commandSpec())
			w.mainRuns(sb, c)
			tc(w, sb, c)
			w.start()
			if got := w.exit(c); got.Code != 42 || got.Reason != vm.ReasonError {
				t.Errorf("exit = %+v", got)
			}
		})
	}
}

func TestARestartStartsNoCommandTwice(t *testing.T) {
	w := newWorld(t)
	sb, c := w.started("a", commandSpec())
	w.mainRuns(sb, c)
	w.restart()
	w.mainRuns(sb, c)
	w.guest.EndMain(sb, vm.MainExit{Code: 1})
	if got := w.exit(c); got.Code != 1 {
		t.Errorf("exit = %+v", got)
	}
}

func TestARebootStartsTheCommandAgain(t *testing.T) {
	w := newWorld(t)
	sb, c := w.started("a", commandSpec())
	w.mainRuns(sb, c)
	w.guest.Boot(sb)
	w.mainRuns(sb, c)
	if setup, _, _ := w.guest.Prepared(sb); setup == nil {
		t.Error("the new boot was not set up")
	}
	w.guest.EndMain(sb, vm.MainExit{})
	if got := w.exit(c); got.Reason != vm.ReasonCompleted {
		t.Errorf("exit = %+v", got)
	}
}

func TestAGuestThatDoesNotPowerOffAfterItsCommandIsDestroyed(t *testing.T) {
	for name, tc := range map[string]func(*world){
		"the agent hangs":    func(w *world) { w.guest.Block("AckMain") },
		"the guest stays on": func(w *world) { w.guest.SetAck(func(string) {}) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				sb, c := w.started("a", commandSpec())
				w.mainRuns(sb, c)
				tc(w)
				w.guest.EndMain(sb, vm.MainExit{Code: 6})
				<-time.After(31 * time.Second)
				synctest.Wait()
				if got := w.exit(c); got.Code != 6 || got.Reason != vm.ReasonError {
					t.Errorf("exit = %+v", got)
				}
				if w.active(sb) {
					t.Error("the VM still runs")
				}
			})
		})
	}
}

func TestAGuestThatEndsUnderItsCommandEndsTheContainerAsBefore(t *testing.T) {
	for name, tc := range map[string]struct {
		do     func(w *world, sb string)
		code   int32
		reason string
	}{
		"poweroff": {func(w *world, sb string) { w.hypervisor.PowerOff(sb) }, 0, vm.ReasonCompleted},
		"panic":    {func(w *world, sb string) { w.hypervisor.Panic(sb) }, 1, vm.ReasonGuestPanicked},
		"kill":     {func(w *world, sb string) { w.hypervisor.Kill(sb) }, 137, vm.ReasonKilled},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			sb, c := w.started("a", commandSpec())
			w.mainRuns(sb, c)
			tc.do(w, sb)
			if got := w.exit(c); got.Code != tc.code || got.Reason != tc.reason {
				t.Errorf("exit = %+v", got)
			}
			if ids := w.guest.Connected(); len(ids) != 0 {
				t.Errorf("still connected to %v", ids)
			}
		})
	}
}

// A guest that boots anew before its command's end was acknowledged has no command any more.
func TestARebootAfterTheCommandsEndStartsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.started("a", commandSpec())
		w.mainRuns(sb, c)
		release := w.guest.Block("AckMain")
		w.guest.EndMain(sb, vm.MainExit{Code: 11})
		synctest.Wait()
		w.guest.SetShutdown(w.powerOff)
		w.guest.Boot(sb)
		release()
		synctest.Wait()
		if got := w.exit(c); got.Code != 11 {
			t.Errorf("exit = %+v", got)
		}
		if w.guest.Main(sb) != nil {
			t.Error("it was started again")
		}
	})
}
