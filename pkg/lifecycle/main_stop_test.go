// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vmlet/vmlet/pkg/vm"
)

func TestAStopSignalsTheCommandAndKeepsItsOwnExitCode(t *testing.T) {
	for signal, sent := range map[string]string{"": "SIGTERM", "SIGQUIT": "SIGQUIT"} {
		t.Run(sent, func(t *testing.T) {
			w := newWorld(t)
			spec := commandSpec()
			spec.StopSignal = signal
			sb, c := w.started("a", spec)
			w.mainRuns(sb, c)
			stopped := make(chan error, 1)
			go func() { stopped <- w.svc.StopContainer(t.Context(), c, time.Minute) }()
			signalled := func() bool { return len(w.guest.Signals(sb)) > 0 }
			w.await("signalled", signalled)
			if got := w.guest.Signals(sb); !slices.Equal(got, []string{sent}) {
				t.Errorf("signals = %v", got)
			}
			w.guest.EndMain(sb, vm.MainExit{Code: 3})
			if err := <-stopped; err != nil {
				t.Fatal(err)
			}
			if got := w.exit(c); got.Code != 3 || got.Reason != vm.ReasonError {
				t.Errorf("exit = %+v", got)
			}
			if count(w.hypervisor.Calls(), "PowerButton "+sb) != 0 {
				t.Error("the button was pressed, which costs a command its own exit")
			}
		})
	}
}

func TestACommandThatIgnoresItsSignalIsDestroyedAtTheDeadlineAndSignalledOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.started("a", commandSpec())
		w.mainRuns(sb, c)
		if err := w.svc.StopContainer(t.Context(), c, 30*time.Second); err != nil {
			t.Fatal(err)
		}
		if got := w.exit(c); got.Code != 137 || got.Reason != vm.ReasonKilled {
			t.Errorf("exit = %+v", got)
		}
		if n := count(w.guest.Calls(), "SignalMain "+sb); n != 1 {
			t.Errorf("signalled %d times", n)
		}
	})
}

func TestAStopBeforeTheCommandHasStartedPowersTheGuestOffAndStartsNothing(t *testing.T) {
	for name, tc := range map[string]func(w *world, sb string){
		"the agent answers during the stop": func(w *world, sb string) { w.guest.SetSilent(sb, false) },
		"the agent stays silent":            func(*world, string) {},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.guest.Mute()
				w.hypervisor.IgnorePowerButton()
				sb, c := w.started("a", commandSpec())
				stopped := make(chan error, 1)
				go func() { stopped <- w.svc.StopContainer(t.Context(), c, 20*time.Second) }()
				synctest.Wait()
				tc(w, sb)
				if err := <-stopped; err != nil {
					t.Fatal(err)
				}
				if count(w.guest.Calls(), "StartMain "+sb) != 0 {
					t.Error("the command was started in the middle of a stop")
				}
				if count(w.hypervisor.Calls(), "PowerButton "+sb) == 0 {
					t.Error("the guest was not asked to power off")
				}
				if got := w.exit(c); got.Code != 137 {
					t.Errorf("exit = %+v", got)
				}
			})
		})
	}
}

func TestAStopOfACommandOutlivesTheDaemon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.started("a", commandSpec())
		w.mainRuns(sb, c)
		go func() { _ = w.svc.StopContainer(t.Context(), c, time.Minute) }() //nolint:errcheck // it ends with the daemon
		synctest.Wait()
		w.restart()
		synctest.Wait()
		if n := len(w.guest.Signals(sb)); n != 2 {
			t.Errorf("signalled %d times in two lives", n)
		}
		w.guest.EndMain(sb, vm.MainExit{Code: 7})
		synctest.Wait()
		if got := w.exit(c); got.Code != 7 {
			t.Errorf("exit = %+v", got)
		}
	})
}

func TestAStopAfterARebootStartsTheCommandNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.hypervisor.IgnorePowerButton()
		sb, c := w.started("a", commandSpec())
		w.mainRuns(sb, c)
		go func() { _ = w.svc.StopContainer(t.Context(), c, time.Minute) }() //nolint:errcheck // its end is the container's
		synctest.Wait()
		w.guest.Boot(sb)
		<-time.After(30 * time.Second)
		if n := count(w.guest.Calls(), "StartMain "+sb); n != 1 {
			t.Errorf("started %d times", n)
		}
		<-time.After(31 * time.Second)
		if got := w.exit(c); got.Code != 137 {
			t.Errorf("exit = %+v", got)
		}
	})
}

func TestADeadlineAfterTheCommandsEndDoesNotChangeItsExit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.started("a", commandSpec())
		w.mainRuns(sb, c)
		w.guest.SetAck(func(string) {}) // and stays on
		w.guest.EndMain(sb, vm.MainExit{Code: 8})
		synctest.Wait()
		if err := w.svc.StopContainer(t.Context(), c, time.Second); err != nil {
			t.Fatal(err)
		}
		if got := w.exit(c); got.Code != 8 || got.Reason != vm.ReasonError {
			t.Errorf("exit = %+v", got)
		}
	})
}
