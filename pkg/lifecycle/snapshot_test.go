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

func (w *world) take(sandbox, name string, memory bool) (vm.SnapshotInfo, error) {
	w.t.Helper()
	return w.svc.CreateSnapshot(w.t.Context(), sandbox, vm.SnapshotRequest{Name: name, Memory: memory})
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func TestASnapshotIsToldWithItsParent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.running("a")
		for _, name := range []string{"one", "two", "three"} {
			_, err := w.take(sb, name, name == "two")
			w.must(err)
		}
		two, err := w.svc.Snapshot(t.Context(), sb, "two")
		w.must(err)
		if two.ParentName != "one" || two.Current || two.ContainerID != c || two.Memory == nil || two.Memory.Size != vm.MiB ||
			two.Consistency != vm.ConsistencyMemory || two.Machine != vm.DomainRunning || two.Used != uint64(vm.MiB) {
			t.Errorf("got %+v", two)
		}
		w.must(w.svc.DeleteSnapshot(t.Context(), sb, "two"))
		three, err := w.svc.Snapshot(t.Context(), "default/a", "three")
		w.must(err)
		if three.ParentName != "one" || !three.Current {
			t.Errorf("got %+v", three)
		}
		if _, there := w.disks.File(w.node.SnapshotMemory(sb, two.ID)); there {
			t.Error("the memory is still there")
		}
		all, err := w.svc.Snapshots(t.Context(), sb)
		if err != nil || len(all) != 2 || all[0].Name != "one" || all[1].Name != "three" {
			t.Errorf("listed are %+v, %v", all, err)
		}
	})
}

// TestWhatCannotBeTakenIsRefused, and leaves nothing: never is less taken than was asked for.
func TestWhatCannotBeTakenIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.running("a")
		_, err := w.take(sb, "a b", false)
		w.refuses(err, errdefs.ErrInvalidArgument, "letters, digits")
		w.hypervisor.PowerOff(sb)
		synctest.Wait()
		_, err = w.take(sb, "m", true)
		w.refuses(err, errdefs.ErrFailedPrecondition, "no VM runs")
		_, err = w.take(w.sandbox("empty"), "m", false)
		w.refuses(err, errdefs.ErrFailedPrecondition, "no container")
		_, err = w.take("default/none", "m", false)
		w.refuses(err, errdefs.ErrNotFound, "none")
		_, err = w.take(c, "off", false)
		w.must(err)
		w.refuses(w.svc.RestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: "m"}), errdefs.ErrNotFound, `"m"`)

		all, err := w.svc.Snapshots(t.Context(), sb)
		if err != nil || len(all) != 1 || all[0].Consistency != vm.ConsistencyOff || all[0].Machine != vm.DomainShutoff {
			t.Errorf("listed are %+v, %v", all, err)
		}
	})
}

func (w *world) refuses(err, class error, words string) {
	w.t.Helper()
	if !errors.Is(err, class) || !strings.Contains(err.Error(), words) {
		w.t.Errorf("got %v, want %v with %q", err, class, words)
	}
}

// TestMemoryIsRestoredInItsOwnContainerAlone: an agent of another one would answer for commands that were never started.
func TestMemoryIsRestoredInItsOwnContainerAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.running("a")
		_, err := w.take(sb, "m", true)
		w.must(err)
		w.hypervisor.PowerOff(sb)
		synctest.Wait()
		w.refuses(w.svc.RestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: "m"}), errdefs.ErrFailedPrecondition, "start one first")
		c := w.created(sb, 1)
		w.must(w.svc.StartContainer(t.Context(), c))
		w.refuses(w.svc.RestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: "m"}), errdefs.ErrFailedPrecondition, "restore the disk alone")
		w.must(w.svc.RestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: "m", DiskOnly: true}))
		if got := w.count("StartFromMemory " + sb); got != 0 {
			t.Errorf("started from memory %d times", got)
		}
	})
}

// TestAVMThatCannotBeRestoredEndsWithItsDisk: it is not left half way, and nothing of it is lost.
func TestAVMThatCannotBeRestoredEndsWithItsDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.running("a")
		_, err := w.take(sb, "m", true)
		w.must(err)
		before := w.sandboxOf(sb).Status.Disks[0]
		w.hypervisor.FailNext("StartFromMemory", errdefs.ErrInternal)
		if err := w.svc.RestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: "m"}); err == nil {
			t.Error("it was restored")
		}
		synctest.Wait()
		if now := w.sandboxOf(sb).Status.Disks[0]; now != before {
			t.Errorf("the disk is %+v, was %+v", now, before)
		}
		st := w.container(c).Status
		if st.State != vm.ContainerExited || st.Exit.Reason != vm.ReasonStartError || !strings.Contains(st.Exit.Message, "as it was before") || st.Restore != nil {
			t.Errorf("the container is %s, %+v", st.State, st.Exit)
		}
	})
}

// TestARestoredVMMayStayPaused until somebody resumes it.
func TestARestoredVMMayStayPaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.running("a")
		_, err := w.take(sb, "m", true)
		w.must(err)
		w.must(w.svc.RestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: "m", Paused: true}))
		if d, err := w.hypervisor.Domain(t.Context(), sb); err != nil || d.State != vm.DomainPaused || !w.container(c).Status.Paused {
			t.Errorf("the domain is %s, %v", d.State, err)
		}
		w.must(w.svc.Resume(t.Context(), sb))
		if d, err := w.hypervisor.Domain(t.Context(), sb); err != nil || d.State != vm.DomainRunning {
			t.Errorf("the domain is %s, %v", d.State, err)
		}
	})
}

func (w *world) sandboxOf(id string) vm.Sandbox {
	w.t.Helper()
	sb, err := w.svc.Sandbox(id)
	w.must(err)
	return sb
}

// taking begins to take a snapshot, and returns when libvirt is at it.
func (w *world) taking(sandbox, name string) (release func(), ended <-chan error) {
	w.t.Helper()
	release = w.hypervisor.Block("Snapshot")
	done := make(chan error, 1)
	go func() {
		_, err := w.svc.CreateSnapshot(context.Background(), sandbox, vm.SnapshotRequest{Name: name})
		done <- err
	}()
	w.must(w.hypervisor.WaitCall(w.t.Context(), "Snapshot "+sandbox))
	return release, done
}

// TestASnapshotThatIsStillTakenIsNotUndone: libvirt goes on without us, and may have QEMU switch to the new file yet.
func TestASnapshotThatIsStillTakenIsNotUndone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.running("a")
		w.hypervisor.SetSaving(sb, true)
		w.hypervisor.FailNext("Snapshot", context.DeadlineExceeded)
		if _, err := w.take(sb, "late", false); err == nil {
			t.Error("it was taken")
		}
		next := w.sandboxOf(sb).Status.Snapshots[0].Disk.Next
		if _, there := w.disks.File(next); !there {
			t.Error("the file that QEMU is told to write to is gone")
		}
		w.hypervisor.SetSaving(sb, false)
		time.Sleep(time.Minute)
		synctest.Wait()
		if _, there := w.disks.File(next); there || len(w.sandboxOf(sb).Status.Snapshots) > 0 {
			t.Error("it was not undone later")
		}
	})
}

// TestNothingIsDoneToAMachineWhileItsSnapshotIsTaken: it would be half in it.
func TestNothingIsDoneToAMachineWhileItsSnapshotIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.running("a")
		release, ended := w.taking(sb, "s")
		w.refuses(w.svc.Pause(t.Context(), sb), errdefs.ErrUnavailable, "is being taken")
		_, err := w.svc.ResizeDisk(t.Context(), sb, vm.RootDiskName, vm.GiB, false)
		w.refuses(err, errdefs.ErrUnavailable, "is being taken")
		release()
		w.must(<-ended)
		w.must(w.svc.Pause(t.Context(), sb))
	})
}

// TestARestoreIsFinishedInTheNextLife, also where the first try of that fails.
func TestARestoreIsFinishedInTheNextLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.running("a")
		_, err := w.take(sb, "m", true)
		w.must(err)
		for range 3 {
			w.hypervisor.FailNext("StartFromMemory", errdefs.ErrUnavailable)
		}
		w.refuses(w.svc.RestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: "m"}), errdefs.ErrUnavailable, "goes on")
		synctest.Wait()
		w.refuses(w.svc.DeleteSnapshot(t.Context(), sb, "m"), errdefs.ErrUnavailable, "being restored")
		if w.container(c).Status.Restore == nil {
			t.Fatal("the restore is over already")
		}
		w.die()
		w.hypervisor.FailNext("StartFromMemory", errdefs.ErrUnavailable)
		before := count(w.hypervisor.Calls(), "StartFromMemory "+sb)
		w.start()
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := count(w.hypervisor.Calls(), "StartFromMemory "+sb) - before; n < 2 {
			t.Errorf("tried %d times in the next life", n)
		}
		if st := w.container(c).Status; st.State != vm.ContainerRunning || st.Restore != nil {
			t.Errorf("the container is %s, %+v", st.State, st.Restore)
		}
		if d, err := w.hypervisor.Domain(t.Context(), sb); err != nil || d.State != vm.DomainRunning {
			t.Errorf("the domain is %s, %v", d.State, err)
		}
		if n := len(w.sandboxOf(sb).Status.Layers); n != 1 {
			t.Errorf("%d layers are left", n)
		}
	})
}

// TestAStartThatCannotFindItsDiskEnds: a container that stays Starting could be neither stopped nor superseded.
func TestAStartThatCannotFindItsDiskEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb := w.sandbox("a")
		c := w.created(sb, 0)
		_, err := w.take(sb, "s", false)
		w.must(err)
		w.hypervisor.FailNext("DefineDisks", errdefs.ErrInternal)
		if err := w.svc.StartContainer(t.Context(), c); err == nil {
			t.Error("it was started")
		}
		if st := w.container(c).Status; st.State != vm.ContainerExited || st.Exit.Reason != vm.ReasonStartError {
			t.Errorf("the container is %s", st.State)
		}
	})
}

// TestTheLayersOfADiskAreListed: the file that the guest writes to, those of snapshots below it, and the image.
func TestTheLayersOfADiskAreListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.running("a")
		for _, name := range []string{"one", "two"} {
			_, err := w.take(sb, name, false)
			w.must(err)
		}
		disks, err := w.svc.VMDisks(t.Context(), sb)
		w.must(err)
		chains, err := w.hypervisor.Chains(t.Context(), sb)
		w.must(err)
		var paths []string
		for i, l := range disks[0].Layers {
			paths = append(paths, l.Path)
			if l.Shared != (i == 3) || l.Allocated == 0 {
				t.Errorf("layer %d is told as %+v", i, l)
			}
		}
		if len(paths) != 4 || !slices.Equal(paths[:3], chains[0][:3]) {
			t.Errorf("told are %v, the machine has %v", paths, chains)
		}
	})
}

// TestASnapshotThatFailedCanBeTakenAgain, also before what it has left is undone: libvirtd died in the middle, and is back.
func TestASnapshotThatFailedCanBeTakenAgain(t *testing.T) {
	for _, switched := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			sb, _ := w.running("a")
			if switched {
				w.disks.FailNext("FileUsage", errdefs.ErrUnavailable) // after libvirt has taken it
			} else {
				w.hypervisor.FailNext("Snapshot", errdefs.ErrUnavailable)
			}
			for range 2 { // when it is undone, at once and then behind the call
				w.hypervisor.FailNext("Domain", errdefs.ErrUnavailable)
			}
			_, err := w.take(sb, "s", true)
			w.refuses(err, errdefs.ErrUnavailable, "")
			synctest.Wait()
			if _, err = w.take(sb, "s", true); err != nil {
				t.Errorf("switched: %v: again: %v", switched, err)
			}
			synctest.Wait()
			if snap, err := w.svc.Snapshot(t.Context(), sb, "s"); err != nil || snap.State != vm.SnapshotReady {
				t.Errorf("switched: %v: it is %s, %v", switched, snap.State, err)
			}
		})
	}
}
