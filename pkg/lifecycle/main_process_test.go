// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"

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
	if exit := <-seen; exit == nil || exit.Code != 5 {
		t.Errorf("acknowledged with %+v on record", exit)
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
			w.guest.SetAck(func(string) {})
			w.guest.EndMain(sb, vm.MainExit{Code: 42})
			w.called("AckMain " + sb)
			w.die()
			w.hypervisor.Disconnect()
			w.guest.PowerOff(sb)
			w.hypervisor.PowerOff(sb)
			w.hypervisor.Reconnect()
		},
		"its agent forgot it, and the guest is still there": func(w *world, sb, _ string) {
			w.guest.SetAck(func(string) {})
			w.guest.SetShutdown(w.powerOff)
			w.guest.EndMain(sb, vm.MainExit{Code: 42})
			w.called("AckMain " + sb)
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
	w.guest.Reboot(sb)
	w.mainRuns(sb, c)
	if setup, _, _ := w.guest.Prepared(sb); setup == nil {
		t.Error("the new boot was not set up")
	}
	w.guest.EndMain(sb, vm.MainExit{})
	if got := w.exit(c); got.Reason != vm.ReasonCompleted {
		t.Errorf("exit = %+v", got)
	}
}

func TestAMachineIsSetUpInEachBoot(t *testing.T) {
	w := newWorld(t)
	spec := podSpec("a")
	spec.Hostname, spec.Sysctls = "web-0", map[string]string{"net.ipv4.ip_forward": "1"}
	spec.DNS = vm.DNSConfig{Servers: []string{"10.0.0.10", "10.0.0.11"}, Searches: []string{"svc", "local"}, Options: []string{"ndots:5", "edns0"}}
	sb, err := w.svc.RunSandbox(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.svc.StartContainer(t.Context(), w.created(sb, 0)); err != nil {
		t.Fatal(err)
	}
	for boot := range 3 {
		prepared := func() bool { setup, _, _ := w.guest.Prepared(sb); return setup != nil }
		w.await("prepared", prepared)
		setup, _, _ := w.guest.Prepared(sb)
		const resolv = "nameserver 10.0.0.10\nnameserver 10.0.0.11\nsearch svc local\noptions ndots:5 edns0\n"
		if setup.Hostname != "web-0" || setup.Sysctls["net.ipv4.ip_forward"] != "1" || string(setup.ResolvConf) != resolv {
			t.Errorf("boot %d: %+v, %s", boot, setup, setup.ResolvConf)
		}
		w.guest.Reboot(sb)
	}
}

func TestAGuestWithoutAnAgentEndsItsCommandInTimeAndSaysWhatToDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.guest.Mute()
		begin := time.Now()
		sb, c := w.started("a", commandSpec())
		<-time.After(61 * time.Second)
		synctest.Wait()
		got := w.exit(c)
		if got.Code != 128 || got.Reason != vm.ReasonStartError || !strings.Contains(got.Message, "vmlet.io/guest-agent=seed") {
			t.Errorf("exit = %+v", got)
		}
		if took := got.At.Sub(begin); took != w.cfg.Defaults.AgentTimeout {
			t.Errorf("it took %s", took)
		}
		if w.active(sb) {
			t.Error("the VM still runs")
		}
	})
}

func TestACommandThatRunsIsNotGivenUpForASilentAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.started("a", commandSpec())
		w.mainRuns(sb, c)
		w.guest.SetSilent(sb, true)
		w.restart()
		<-time.After(time.Hour)
		if got := w.container(c).Status; got.State != vm.ContainerRunning || got.MainExit != nil {
			t.Fatalf("status = %+v", got)
		}
		w.guest.SetSilent(sb, false)
		w.guest.EndMain(sb, vm.MainExit{Code: 9})
		synctest.Wait()
		if got := w.exit(c); got.Code != 9 {
			t.Errorf("exit = %+v", got)
		}
	})
}

func TestWhatTheGuestRefusesEndsTheCommandAndNotTheMachine(t *testing.T) {
	w := newWorld(t)
	refused := errors.Join(errors.New("no such sysctl"), errdefs.ErrInvalidArgument)
	w.guest.FailNext("Setup", refused)
	sb, c := w.started("a", commandSpec())
	if got := w.exit(c); got.Code != 128 || got.Reason != vm.ReasonStartError || !strings.Contains(got.Message, "no such sysctl") {
		t.Errorf("exit = %+v", got)
	}
	if w.active(sb) {
		t.Error("the VM still runs")
	}
	w.guest.FailNext("Setup", refused)
	sb, c = w.running("b")
	w.called("Setup " + sb)
	w.restart()
	if got := w.container(c).Status.State; got != vm.ContainerRunning {
		t.Errorf("the machine is %s", got)
	}
}

func TestASessionThatBreaksIsTriedAgain(t *testing.T) {
	for _, method := range []string{"AwaitAgent", "Setup", "StartMain", "WaitMain", "AckMain"} {
		t.Run(method, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.guest.FailNext(method, errdefs.ErrUnavailable)
				sb, c := w.started("a", commandSpec())
				<-time.After(2 * time.Second)
				w.mainRuns(sb, c)
				w.guest.EndMain(sb, vm.MainExit{Code: 4})
				<-time.After(2 * time.Second)
				if got := w.exit(c); got.Code != 4 {
					t.Errorf("exit = %+v", got)
				}
			})
		})
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

func TestACommandThatNoAgentCouldRunIsRefusedWithoutATrace(t *testing.T) {
	for name, change := range map[string]func(*world, *vm.SandboxSpec){
		"by annotation": func(_ *world, spec *vm.SandboxSpec) {
			spec.Annotations = map[string]string{"vmlet.io/guest-agent": "qga"}
		},
		"by configuration": func(w *world, _ *vm.SandboxSpec) {
			d := w.cfg.Defaults
			d.AgentChannel = false
			w.svc.SetDefaults(d)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			spec := podSpec("a")
			change(w, &spec)
			sb, err := w.svc.RunSandbox(t.Context(), spec)
			if err != nil {
				t.Fatal(err)
			}
			_, err = w.svc.CreateContainer(t.Context(), sb, commandSpec())
			mustBe(t, err, errdefs.ErrFailedPrecondition)
			if files := w.disks.Files(); len(files) != 0 {
				t.Errorf("files left: %v", files)
			}
			c := w.created(sb, 0)
			if err := w.svc.StartContainer(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			machine, _ := w.hypervisor.Machine(sb)
			if machine.AgentSocket != "" || len(w.guest.Connected()) != 0 {
				t.Errorf("a port for vmlet-agent at %q", machine.AgentSocket)
			}
		})
	}
}

func TestMountsAreCopiedOrSharedBeforeTheCommandStarts(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	hosts, secret, data := filepath.Join(dir, "hosts"), filepath.Join(dir, "secret"), filepath.Join(dir, "data")
	mustWrite(t, hosts, 10)
	if err := errors.Join(os.MkdirAll(data, 0o755), os.MkdirAll(filepath.Join(secret, "..2026"), 0o755), os.Symlink("..2026", filepath.Join(secret, "..data"))); err != nil {
		t.Fatal(err)
	}
	spec := commandSpec()
	spec.Mounts = []vm.Mount{
		{ContainerPath: "/etc/hosts", HostPath: hosts},
		{ContainerPath: "/run/secrets/a", HostPath: secret, ReadOnly: true},
		{ContainerPath: "/data", HostPath: data},
	}
	sb, c := w.started("a", spec)
	m := w.mainRuns(sb, c)
	_, files, shares := w.guest.Prepared(sb)
	if len(files) != 2 || len(shares) != 1 || shares[0].Source == "" || shares[0].GuestPath != "/data" {
		t.Errorf("%s has files %+v, shares %+v", m.ID, files, shares)
	}
	machine, _ := w.hypervisor.Machine(sb)
	if machine.Share != w.node.Share(sb) {
		t.Errorf("share = %q", machine.Share)
	}
	calls := w.guest.Calls()
	order := []int{slices.Index(calls, "MountShares "+sb), slices.Index(calls, "KeepFiles "+sb), slices.Index(calls, "StartMain "+sb)}
	if !slices.IsSorted(order) || order[0] < 0 {
		t.Errorf("calls = %v", calls)
	}
	w.guest.EndMain(sb, vm.MainExit{})
	w.exit(c)
	calls = w.guest.Calls()
	if fetch, ack := slices.Index(calls, "FetchFiles "+sb), slices.Index(calls, "AckMain "+sb); fetch < 0 || fetch > ack {
		t.Errorf("calls = %v", calls)
	}
	if err := w.svc.StopSandbox(t.Context(), sb); err != nil {
		t.Fatal(err)
	}
	if _, there := w.shares.Tree(sb); there {
		t.Error("a stopped sandbox still shares")
	}
}

func TestTheNextContainerSharesOnlyItsOwn(t *testing.T) {
	w := newWorld(t)
	spec := containerSpec(0)
	spec.Mounts = []vm.Mount{{ContainerPath: "/data", HostPath: t.TempDir()}}
	sb, c := w.started("a", spec)
	w.hypervisor.PowerOff(sb)
	w.exit(c)
	w.created(sb, 1)
	if tree, there := w.shares.Tree(sb); there {
		t.Errorf("it shares %+v", tree)
	}
}

func TestSharesThatCannotBeMadeLeaveNothing(t *testing.T) {
	w := newWorld(t)
	sb := w.sandbox("a")
	spec := containerSpec(0)
	spec.Mounts = []vm.Mount{{ContainerPath: "/data", HostPath: t.TempDir()}}
	w.shares.FailNext("Create", errdefs.ErrResourceExhausted)
	_, err := w.svc.CreateContainer(t.Context(), sb, spec)
	mustBe(t, err, errdefs.ErrResourceExhausted)
	if files := w.disks.Files(); len(files) != 0 {
		t.Errorf("files left: %v", files)
	}
	if _, there := w.shares.Tree(sb); there {
		t.Error("a tree is left")
	}
}

func TestTreesWithoutASandboxAreTakenDown(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	spec := containerSpec(0)
	spec.Mounts = []vm.Mount{{ContainerPath: "/data", HostPath: dir}}
	sb, _ := w.started("a", spec)
	if _, err := w.shares.Create(t.Context(), "0123456789abcdef0123456789abcdef", []vm.ShareMount{{HostPath: dir, GuestPath: "/x"}}); err != nil {
		t.Fatal(err)
	}
	w.restart()
	ids, err := w.shares.List(t.Context())
	if err != nil || !slices.Equal(ids, []string{sb}) {
		t.Errorf("trees of %v, %v; want that of %s", ids, err, sb)
	}
}

func mustWrite(t *testing.T, path string, size int) {
	t.Helper()
	if err := os.WriteFile(path, make([]byte, size), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestTheAgentComesByTheSeedWhereThatIsAskedFor(t *testing.T) {
	w := newWorld(t)
	spec := podSpec("a")
	spec.Annotations = map[string]string{"vmlet.io/guest-agent": "seed"}
	sb, err := w.svc.RunSandbox(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	w.agent = nil
	_, err = w.svc.CreateContainer(t.Context(), sb, containerSpec(0))
	mustBe(t, err, errdefs.ErrNotFound)
	if files := w.disks.Files(); len(files) != 0 {
		t.Errorf("files left: %v", files)
	}
	w.agent = []byte("\x7fELF of an agent")
	w.created(sb, 0)
	other := w.sandbox("b")
	w.created(other, 0)
	for id, want := range map[string]bool{sb: true, other: false} {
		seed, _ := w.disks.File(w.node.Seed(id))
		if has := strings.Contains(string(seed.Seed), string(w.agent)); has != want {
			t.Errorf("the seed of %s has the agent: %v", id, has)
		}
	}
}
