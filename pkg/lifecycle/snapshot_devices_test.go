// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// shared proves that the guest has its share, in the machine and mounted.
func (w *world) shared(sb string, want bool) {
	w.t.Helper()
	_, _, mounted := w.guest.Prepared(sb)
	if w.hypervisor.HasShare(sb) != want || (len(mounted) > 0) != want {
		w.t.Errorf("in the machine: %v, mounted: %v, want %v", w.hypervisor.HasShare(sb), mounted, want)
	}
}

// TestTheShareIsAwayWhileMemoryIsTaken, and comes back in the machine, in the guest and in the pod's cgroup.
func TestTheShareIsAwayWhileMemoryIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.sharing()
		synctest.Wait()
		release := w.hypervisor.Block("Snapshot")
		ended := make(chan error, 1)
		go func() {
			_, err := w.take(sb, "m", true)
			ended <- err
		}()
		w.must(w.hypervisor.WaitCall(t.Context(), "Snapshot "+sb))
		w.shared(sb, false)
		w.guest.Boot(sb) // its attendant, and who hears that virtiofsd has ended, wait
		time.Sleep(10 * time.Second)
		synctest.Wait()
		w.shared(sb, false)
		release()
		w.must(<-ended)
		synctest.Wait()
		w.shared(sb, true)
		helpers, err := w.hypervisor.HelperPIDs(t.Context(), sb)
		w.must(err)
		if !slices.Contains(w.cgroups.Groups()[sb].PIDs, helpers[0]) {
			t.Error("its process is not in the pod's cgroup")
		}
		if n := w.logged.FilterMessageSnippet("lost its virtiofsd").Len(); n > 0 {
			t.Error("it was taken for lost")
		}
		w.must(w.svc.DeleteSnapshot(t.Context(), sb, "m"))
		if n := len(w.sandboxOf(sb).Status.Layers); n > 0 {
			t.Errorf("%d layers are left", n)
		}
	})
}

// TestAShareComesBackWhateverFails, and nothing less than what was asked for is taken.
func TestAShareComesBackWhateverFails(t *testing.T) {
	busy := fmt.Errorf("the share is in use: /data/f by process 7 (cat): %w", errdefs.ErrFailedPrecondition)
	for name, tc := range map[string]struct {
		fail  func(w *world)
		class error
		words string
	}{
		"busy":     {func(w *world) { w.guest.FailNext("UnmountShares", busy) }, errdefs.ErrFailedPrecondition, "/data/f by process 7 (cat)"},
		"held":     {func(w *world) { w.hypervisor.FailNext("UnplugShare", errdefs.ErrFailedPrecondition) }, errdefs.ErrFailedPrecondition, ""},
		"snapshot": {func(w *world) { w.hypervisor.FailNext("Snapshot", errdefs.ErrInternal) }, errdefs.ErrInternal, ""},
		"plug":     {func(w *world) { w.hypervisor.FailNext("ReplugShare", errdefs.ErrUnavailable) }, errdefs.ErrUnavailable, ""},
		"mount":    {func(w *world) { w.guest.FailNext("MountShares", errdefs.ErrUnavailable) }, errdefs.ErrUnavailable, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				sb, _ := w.sharing()
				synctest.Wait()
				tc.fail(w)
				_, err := w.take(sb, "m", true)
				w.refuses(err, tc.class, tc.words)
				time.Sleep(time.Minute)
				synctest.Wait()
				w.shared(sb, true)
				if st := w.sandboxOf(sb).Status; len(st.Snapshots)+len(st.Layers) > 0 {
					t.Errorf("left: %+v, %+v", st.Snapshots, st.Layers)
				}
				_, err = w.take(sb, "m", true)
				w.must(err)
				w.shared(sb, true)
			})
		})
	}
}

// TestAGuestThatCannotUnmountItsShareIsRefused before anything is done to it.
func TestAGuestThatCannotUnmountItsShareIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.sharing()
		synctest.Wait()
		w.guest.SetSilent(sb, true)
		_, err := w.take(sb, "m", true)
		w.refuses(err, errdefs.ErrFailedPrecondition, "/data by a virtiofs device")
		w.guest.SetSilent(sb, false)
		w.must(w.svc.Pause(t.Context(), sb))
		_, err = w.take(sb, "m", true)
		w.refuses(err, errdefs.ErrFailedPrecondition, "it is paused")
		w.must(w.svc.Resume(t.Context(), sb))
		if n := w.count("UnplugShare " + sb); n > 0 {
			t.Errorf("unplugged %d times", n)
		}
		_, err = w.take(sb, "d", false) // the disk alone needs none of it
		w.must(err)
	})
}

// TestARestoredGuestHasItsShareBeforeTheCallerIsTold, or hears of it when it is resumed.
func TestARestoredGuestHasItsShareBeforeTheCallerIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.sharing()
		synctest.Wait()
		_, err := w.take(sb, "m", true)
		w.must(err)
		w.guest.Boot(sb) // what the fake knows of mounts goes with the restore
		synctest.Wait()
		release := w.guest.Block("MountShares")
		done := make(chan error, 1)
		go func() { done <- w.svc.RestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: "m"}) }()
		time.Sleep(10 * time.Second)
		select {
		case err := <-done:
			t.Fatalf("told before the share was mounted: %v", err)
		default:
		}
		release()
		w.must(<-done)
		w.shared(sb, true)
		w.must(w.svc.RestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: "m", Paused: true}))
	})
}

// TestNICsAreThoseOnRecordAfterARestore: what was attached since the snapshot is plugged, wired and told of, and what was
// detached since is unplugged, also where another one has its name by now.
func TestNICsAreThoseOnRecordAfterARestore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.running("a")
		w.attachNIC(sb, "eth1")
		w.attachNIC(sb, "eth2")
		_, err := w.take(sb, "m", true)
		w.must(err)
		w.must(w.svc.DetachNIC(t.Context(), sb, "eth1", 0))
		again, err := w.svc.AttachNIC(t.Context(), sb, vm.NICSpec{Name: "eth1", MAC: "02:00:00:00:00:77"}, nil)
		w.must(err)
		w.must(w.svc.DetachNIC(t.Context(), sb, "eth2", 0))
		w.attachNIC(sb, "eth3")
		_, err = w.svc.SetLinkState(t.Context(), sb, vm.PrimaryNIC, false)
		w.must(err)
		w.must(w.svc.RestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: "m"}))
		synctest.Wait()
		pod := w.sandboxOf(sb)
		has := w.hypervisor.NICs(sb)
		if len(has) != 3 {
			t.Errorf("the machine has %v", has)
		}
		for _, nic := range pod.NICs() {
			if got, ok := has[nic.Tap]; !ok || got.MAC != nic.MAC || got.Down != nic.Down {
				t.Errorf("NIC %+v is %+v in the machine", nic, got)
			}
		}
		if has[again.NIC.Tap].MAC != "02:00:00:00:00:77" {
			t.Errorf("eth1 is %+v", has[again.NIC.Tap])
		}
		var told []string
		for _, nic := range w.guest.NICs(sb) {
			told = append(told, nic.Name)
		}
		if strings.Join(told, " ") != "eth1 eth3" {
			t.Errorf("the guest was told of %v", told)
		}
		if w.container(c).Status.Rejoin {
			t.Error("it is not done")
		}
	})
}

// TestAGuestThatKeepsASurplusNICIsWaitedFor: over a restart of vmlet, and while it is paused.
func TestAGuestThatKeepsASurplusNICIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.running("a")
		w.attachNIC(sb, "eth1")
		_, err := w.take(sb, "m", true)
		w.must(err)
		w.must(w.svc.DetachNIC(t.Context(), sb, "eth1", 0))
		w.must(w.svc.RestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: "m", Paused: true}))
		synctest.Wait()
		if !w.container(c).Status.Rejoin || len(w.hypervisor.NICs(sb)) != 2 {
			t.Errorf("NICs %v", w.hypervisor.NICs(sb))
		}
		for tap, nic := range w.hypervisor.NICs(sb) {
			if strings.HasPrefix(tap, "surplus") && !nic.Down {
				t.Error("a NIC that is not on record has a carrier")
			}
		}
		w.hypervisor.HoldNICs(true)
		w.must(w.svc.Resume(t.Context(), sb))
		time.Sleep(5 * time.Minute)
		_, err = w.svc.AttachNIC(t.Context(), sb, vm.NICSpec{Name: "eth4"}, nil)
		w.refuses(err, errdefs.ErrUnavailable, "has not let go of")
		_, err = w.take(sb, "n", true)
		w.refuses(err, errdefs.ErrUnavailable, "has not let go of")
		w.restart()
		w.hypervisor.HoldNICs(false)
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if w.container(c).Status.Rejoin || len(w.hypervisor.NICs(sb)) != 1 {
			t.Errorf("NICs %v", w.hypervisor.NICs(sb))
		}
		w.attachNIC(sb, "eth4")
	})
}

// TestDisksOfMemory: what the guest writes to is part of a snapshot or refuses it, what it reads has to be there again.
func TestDisksOfMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.running("a")
		w.disks.AddSource("/allowed/ro", vm.DiskSource{Identity: "file 1:1", Size: vm.MiB})
		w.disks.AddSource("/allowed/rw", vm.DiskSource{Identity: "file 1:2", Size: vm.MiB})
		ro := byPath("/allowed/ro")
		ro.ReadOnly = true
		w.attach(sb, "iso", ro)
		w.attach(sb, "mine", byPath("/allowed/rw"))
		_, err := w.take(sb, "m", true)
		w.refuses(err, errdefs.ErrFailedPrecondition, "(mine: ")
		w.detach(sb, "mine", vm.DetachRequest{})
		_, err = w.take(sb, "m", true)
		w.must(err)
		w.attach(sb, "mine", byPath("/allowed/rw"))
		w.must(w.svc.RestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: "m"}))
		synctest.Wait()
		w.wantDisks(sb, "vdc", "vdd") // what was attached since is plugged
		w.detach(sb, "iso", vm.DetachRequest{})
		w.refuses(w.svc.RestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: "m"}), errdefs.ErrFailedPrecondition, `disk "iso"`)
		w.attach(sb, "iso", ro)
		w.must(w.svc.RestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: "m"}))
	})
}
