// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

func (w *world) quiesce(sandbox, name string) (vm.SnapshotInfo, error) {
	w.t.Helper()
	return w.svc.CreateSnapshot(w.t.Context(), sandbox, vm.SnapshotRequest{Name: name, Quiesce: true})
}

// thawed proves that a guest's file systems are not frozen, and that none of the snapshots on record says that they were.
func (w *world) thawed(sandbox string) {
	w.t.Helper()
	if w.guest.Frozen(sandbox) {
		w.t.Error("the guest's file systems are frozen")
	}
}

func TestAQuiescedSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.running("a")
		release := w.hypervisor.Block("Snapshot")
		ended := make(chan vm.SnapshotInfo, 1)
		go func() {
			info, err := w.quiesce(sb, "q")
			if err != nil {
				t.Error(err)
			}
			ended <- info
		}()
		synctest.Wait()
		if !w.guest.Frozen(sb) {
			t.Error("the disk is taken of file systems that are not frozen")
		}
		release()
		if info := <-ended; info.Consistency != vm.ConsistencyFiles || info.State != vm.SnapshotReady {
			t.Errorf("%+v", info)
		}
		w.thawed(sb)
		info, err := w.take(sb, "plain", false)
		if err != nil || info.Consistency != vm.ConsistencyCrash {
			t.Errorf("%+v, %v", info, err)
		}
	})
}

// What cannot be quiesced is refused: never is less taken than was asked for, and nothing stays frozen.
func TestWhatCannotBeQuiescedIsRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		before func(w *world, sb, c string)
		text   string
	}{
		"a paused guest":            {func(w *world, _, c string) { w.must(w.svc.Pause(w.t.Context(), c)) }, "paused"},
		"a guest that is off":       {func(w *world, sb, _ string) { w.off(sb) }, "no guest runs"},
		"a guest without an agent":  {func(w *world, sb, _ string) { w.guest.SetSilent(sb, true) }, "no agent answers"},
		"a guest that cannot":       {func(w *world, _, _ string) { w.guest.FailNext("Freeze", errdefs.ErrNotImplemented) }, "not implemented"},
		"an agent that goes away":   {func(w *world, _, _ string) { w.guest.FailNext("Thaw", errdefs.ErrUnavailable) }, "to the end is not known"},
		"a disk that takes so long": {func(w *world, _, _ string) { w.slowly("Snapshot", time.Minute) }, "0 of 2"},
		"a disk that cannot be":     {func(w *world, _, _ string) { w.hypervisor.FailNext("Snapshot", errdefs.ErrFailedPrecondition) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				sb, c := w.running("a")
				tc.before(w, sb, c)
				_, err := w.quiesce(sb, "q")
				w.refuses(err, errdefs.ErrFailedPrecondition, tc.text)
				w.guest.SetSilent(sb, false)
				time.Sleep(10 * time.Second)
				synctest.Wait()
				w.thawed(sb)
				if all, err := w.svc.Snapshots(t.Context(), sb); err != nil || len(all) != 0 {
					t.Errorf("left are %+v, %v", all, err)
				}
			})
		})
	}
	w := newWorld(t)
	sb, _ := w.running("a")
	_, err := w.svc.CreateSnapshot(t.Context(), sb, vm.SnapshotRequest{Name: "q", Quiesce: true, Memory: true})
	mustBe(t, err, errdefs.ErrInvalidArgument)
}

// slowly has a method of the hypervisor take its time.
func (w *world) slowly(method string, takes time.Duration) {
	release := w.hypervisor.Block(method)
	go func() {
		time.Sleep(takes)
		release()
	}()
}

// A guest whose vmlet was killed in the moment is thawed by the next one, and its half snapshot is undone.
func TestAGuestIsThawedAfterACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.running("a")
		root, err := w.store.Sandboxes().Get(sb)
		w.must(err)
		disk := root.Status.Disks[0]
		_, err = w.store.Sandboxes().Update(sb, "as a life before has left it", func(sb vm.Sandbox) (vm.Sandbox, error) {
			sb.Status.Snapshots = []vm.Snapshot{{
				ID: "1", Name: "q", State: vm.SnapshotCreating, Consistency: vm.ConsistencyFiles, Machine: vm.DomainRunning, ContainerID: c,
				Disk: vm.SnapshotDisk{Container: disk.Container, ImageID: disk.ImageID, Layer: "2", Next: w.node.LayeredDisk(sb.ID, "2")},
			}}
			return sb, nil
		})
		w.must(err)
		w.die()
		_, err = w.guest.Freeze(t.Context(), sb, time.Hour)
		w.must(err)
		w.start()
		time.Sleep(2 * time.Second)
		w.thawed(sb)
		if all, err := w.svc.Snapshots(t.Context(), sb); err != nil || len(all) != 0 {
			t.Errorf("left are %+v, %v", all, err)
		}
		w.isOn(sb, c)
	})
}
