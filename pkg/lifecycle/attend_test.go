// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

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
		w.guest.Boot(sb)
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

// Where there will be no agent of ours, cloud-init does what it can of it.
func TestTheSeedStandsInForAnAgent(t *testing.T) {
	w := newWorld(t)
	for name, want := range map[string]bool{"vmlet": false, "qga": true} {
		spec := podSpec(name)
		spec.Annotations = map[string]string{"vmlet.io/guest-agent": name}
		spec.Sysctls = map[string]string{"net.ipv4.ip_forward": "1"}
		sb, err := w.svc.RunSandbox(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		file := filepath.Join(dir, "hosts")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		c := containerSpec(0)
		c.Mounts = []vm.Mount{{HostPath: file, ContainerPath: "/etc/hosts"}, {HostPath: dir, ContainerPath: "/data"}}
		if _, err := w.svc.CreateContainer(t.Context(), sb, c); err != nil {
			t.Fatal(err)
		}
		seed, _ := w.disks.File(w.node.Seed(sb))
		for _, line := range []string{"file 0 '/etc/hosts'", "' '/data' rw", "setting 'net.ipv4.ip_forward=1'"} {
			if has := strings.Contains(string(seed.Seed), line); has != want {
				t.Errorf("%s: the seed has %q: %v", name, line, has)
			}
		}
	}
}

func TestAMachineThatGoesWithoutItsMountsIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.guest.Mute()
		spec := containerSpec(0)
		spec.Mounts = []vm.Mount{{HostPath: t.TempDir(), ContainerPath: "/data"}}
		w.started("a", spec)
		<-time.After(w.cfg.Defaults.AgentTimeout + time.Second)
		synctest.Wait()
		if got := w.logged.FilterMessageSnippet("no vmlet-agent answers").Len(); got != 1 {
			t.Errorf("said %d times", got)
		}
	})
}
