// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

func (w *world) sharing() (sandboxID, containerID string) {
	w.t.Helper()
	spec := containerSpec(0)
	spec.Mounts = []vm.Mount{{ContainerPath: "/data", HostPath: w.t.TempDir()}}
	return w.started("a", spec)
}

func TestTheProcessesOfAShareAreChargedToThePod(t *testing.T) {
	w := newWorld(t)
	sb, _ := w.sharing()
	helpers, err := w.hypervisor.HelperPIDs(t.Context(), sb)
	if err != nil || len(helpers) == 0 {
		t.Fatal(helpers, err)
	}
	for _, pid := range helpers {
		if !slices.Contains(w.cgroups.Groups()[sb].PIDs, pid) {
			t.Errorf("process %d is not in %v", pid, w.cgroups.Groups()[sb].PIDs)
		}
	}
}

func TestALostShareIsReplacedAndMountedAnew(t *testing.T) {
	for name, lose := range map[string]func(w *world, sb string){
		"while we listen": func(w *world, sb string) { w.hypervisor.LoseShare(sb) },
		"while we are away": func(w *world, sb string) {
			w.die()
			w.hypervisor.Disconnect() // the event is lost
			w.hypervisor.LoseShare(sb)
			w.hypervisor.Reconnect()
			w.start()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				sb, _ := w.sharing()
				synctest.Wait()
				before := len(w.guest.Calls())
				lose(w, sb)
				synctest.Wait()
				if n := count(w.hypervisor.Calls(), "ReplugShare "+sb); n != 1 {
					t.Errorf("plugged %d times", n)
				}
				calls := w.guest.Calls()[before:]
				// An unmount would wait for the dead virtiofsd.
				if !slices.Contains(calls, "MountShares "+sb) || slices.Contains(calls, "UnmountShares "+sb) {
					t.Errorf("calls = %v", calls)
				}
				if helpers, err := w.hypervisor.HelperPIDs(t.Context(), sb); err != nil || len(helpers) == 0 {
					t.Errorf("helpers = %v, %v", helpers, err)
				}
			})
		})
	}
}

// A guest that could not mount its new share at once does so later.
func TestAReplacedShareIsMountedInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.sharing()
		synctest.Wait()
		before := count(w.guest.Calls(), "MountShares "+sb)
		w.guest.FailNext("MountShares", errdefs.ErrUnavailable)
		w.hypervisor.LoseShare(sb)
		<-time.After(time.Hour)
		if n := count(w.guest.Calls(), "MountShares "+sb) - before; n != 2 {
			t.Errorf("mounted %d times, want once more", n)
		}
		if n := count(w.hypervisor.Calls(), "ReplugShare "+sb); n != 1 {
			t.Errorf("plugged %d times", n)
		}
	})
}

func TestAShareThatTheGuestHoldsIsReportedAndComesBackWithAReboot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.sharing()
		synctest.Wait()
		w.hypervisor.FailNext("ReplugShare", errdefs.ErrFailedPrecondition)
		w.hypervisor.LoseShare(sb)
		<-time.After(time.Hour)
		if n := count(w.hypervisor.Calls(), "ReplugShare "+sb); n != 1 {
			t.Errorf("tried %d times", n)
		}
		if got := w.container(c).Status.State; got != vm.ContainerRunning {
			t.Errorf("container is %s", got)
		}
		w.guest.Boot(sb)
		synctest.Wait()
		if helpers, err := w.hypervisor.HelperPIDs(t.Context(), sb); err != nil || len(helpers) == 0 {
			t.Errorf("helpers after a reboot = %v, %v", helpers, err)
		}
		if _, _, shares := w.guest.Prepared(sb); len(shares) != 1 {
			t.Errorf("mounted after a reboot: %+v", shares)
		}
	})
}
