// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// held begins a snapshot m with memory, which is held until release.
func (w *world) held(sandbox string) (op vm.OperationInfo, release func()) {
	w.t.Helper()
	release = w.hypervisor.HoldSaving(sandbox)
	op, err := w.svc.DetachSnapshot(w.t.Context(), sandbox, vm.SnapshotRequest{Name: "m", Memory: true})
	w.must(err)
	synctest.Wait()
	return op, release
}

func (w *world) operation(id string) vm.OperationInfo {
	w.t.Helper()
	op, err := w.svc.Operation("", id)
	w.must(err)
	return op
}

// ended waits for the end of an operation.
func (w *world) ended(id string) vm.OperationInfo {
	w.t.Helper()
	var last vm.OperationInfo
	w.must(w.svc.WatchOperation(w.t.Context(), "", id, func(o vm.OperationInfo) error { last = o; return nil }))
	return last
}

func TestAnOperationIsFoundFromItsIntentToItsEndAndAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.running("a")
		op, release := w.held(sb)
		if op.State != vm.OperationRunning || op.Kind != vm.OperationSnapshotCreate || op.Subject != "m" || op.SandboxID != sb || op.Pod != "a" {
			t.Errorf("it is %+v", op)
		}
		if snap := w.sandboxOf(sb).Status.Snapshots; len(snap) != 1 || snap[0].State != vm.SnapshotCreating {
			t.Errorf("it is told without its intent: %+v", snap)
		}
		var seen []vm.OperationInfo
		watched := make(chan error, 1)
		go func() {
			watched <- w.svc.WatchOperation(t.Context(), "default/a", op.ID[:8], func(o vm.OperationInfo) error {
				seen = append(seen, o)
				return nil
			})
		}()
		for _, done := range []int64{10, 60} {
			w.hypervisor.SetProgress(sb, vm.Progress{Done: done, Total: 100})
			time.Sleep(time.Second)
			synctest.Wait()
			if now := w.operation(op.ID); now.Done != done || now.Total != 100 || !now.Cancellable {
				t.Errorf("it is %+v", now)
			}
		}
		release()
		w.must(<-watched)
		var dones []int64
		for _, o := range seen {
			dones = append(dones, o.Done)
		}
		last := seen[len(seen)-1]
		if !slices.Equal(dones, []int64{0, 10, 60, 0}) || last.State != vm.OperationSucceeded || last.EndedAt.IsZero() {
			t.Errorf("seen were %v, last %+v", dones, last)
		}
		w.restart()
		if now := w.operation(op.ID); now.State != vm.OperationSucceeded {
			t.Errorf("in the next life it is %+v", now)
		}
	})
}

func TestWhatIsRefusedLeavesNoOperation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb := w.sandbox("a")
		_, err := w.svc.DetachSnapshot(t.Context(), sb, vm.SnapshotRequest{Name: "m"})
		w.refuses(err, errdefs.ErrFailedPrecondition, "no container")
		_, err = w.svc.DetachRestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: "m"})
		w.refuses(err, errdefs.ErrNotFound, "no snapshot")
		_, err = w.svc.DetachDeleteSnapshot(t.Context(), sb, "m")
		w.refuses(err, errdefs.ErrNotFound, "no snapshot")
		_, err = w.svc.DetachDeleteSnapshot(t.Context(), "default/none", "m")
		w.refuses(err, errdefs.ErrNotFound, "none")
		if all, err := w.svc.Operations(""); err != nil || len(all) > 0 {
			t.Errorf("there are %+v, %v", all, err)
		}
		_, err = w.svc.Operation("", "")
		w.refuses(err, errdefs.ErrNotFound, "operation")
	})
}

// TestTheSameCallFindsTheOperation: who lost the answer asks again, and gets the same one.
func TestTheSameCallFindsTheOperation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.running("a")
		op, release := w.held(sb)
		again, err := w.svc.DetachSnapshot(t.Context(), sb, vm.SnapshotRequest{Name: "m", Memory: true})
		if err != nil || again.ID != op.ID {
			t.Errorf("the second is %+v, %v", again, err)
		}
		release()
		if end := w.ended(op.ID); end.State != vm.OperationSucceeded {
			t.Errorf("it is %+v", end)
		}
	})
}

func TestEachCallLeavesAnOperation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.running("a")
		_, err := w.take(sb, "s", false)
		w.must(err)
		op, err := w.svc.DetachRestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: "s"})
		w.must(err)
		w.ended(op.ID)
		w.hypervisor.FailNext("PullLayer", errdefs.ErrInternal)
		w.refuses(w.svc.DeleteSnapshot(t.Context(), sb, "s"), errdefs.ErrInternal, "delete snapshot s")
		time.Sleep(time.Minute)
		synctest.Wait()
		w.hypervisor.PowerOff(sb)
		synctest.Wait()
		_, err = w.take(sb, "off", false)
		w.must(err)
		w.must(w.svc.RestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: "off"}))
		all, err := w.svc.Operations(sb)
		w.must(err)
		var got []string
		for _, o := range all {
			got = append(got, fmt.Sprint(o.Kind, " ", o.Subject, " ", o.State))
		}
		want := []string{
			"snapshot-create s succeeded", "snapshot-restore s succeeded", "snapshot-delete s succeeded", // though its caller was told otherwise
			"snapshot-create off succeeded", "snapshot-restore off succeeded",
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestAnOperationThatFailsSaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.running("a")
		_, err := w.take(sb, "m", true)
		w.must(err)
		w.hypervisor.FailNext("StartFromMemory", fmt.Errorf("no such luck: %w", errdefs.ErrInternal))
		op, err := w.svc.DetachRestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: "m"})
		w.must(err)
		if end := w.ended(op.ID); end.State != vm.OperationFailed || !strings.Contains(end.Error, "no such luck") {
			t.Errorf("it is %+v", end)
		}
	})
}

// TestACancelledSnapshotLeavesNothing, and the VM runs on.
func TestACancelledSnapshotLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.running("a")
		op, release := w.held(sb)
		defer release()
		files := len(w.disks.Files())
		end, err := w.svc.CancelOperation(t.Context(), "", op.ID)
		if err != nil || end.State != vm.OperationCancelled || end.Error != "" {
			t.Errorf("it is %+v, %v", end, err)
		}
		synctest.Wait()
		st := w.sandboxOf(sb).Status
		if len(st.Snapshots)+len(st.Layers) > 0 || len(w.disks.Files()) != files-1 {
			t.Errorf("left are %+v, %+v, %v", st.Snapshots, st.Layers, w.disks.Files())
		}
		if d, err := w.hypervisor.Domain(t.Context(), sb); err != nil || d.State != vm.DomainRunning || w.container(c).Status.State != vm.ContainerRunning {
			t.Errorf("the VM is %s, %v", d.State, err)
		}
		_, err = w.svc.CancelOperation(t.Context(), "", op.ID) // once more
		w.must(err)
		_, err = w.take(sb, "other", false)
		w.must(err)
	})
}

func TestWhatCannotBeCancelledSaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.running("a")
		release := w.hypervisor.Block("Snapshot")
		disk, err := w.svc.DetachSnapshot(t.Context(), sb, vm.SnapshotRequest{Name: "d"})
		w.must(err)
		_, err = w.svc.CancelOperation(t.Context(), "", disk.ID)
		w.refuses(err, errdefs.ErrFailedPrecondition, "takes no time")
		release()
		w.ended(disk.ID)
		_, err = w.svc.CancelOperation(t.Context(), "", disk.ID)
		w.refuses(err, errdefs.ErrFailedPrecondition, "succeeded already")
		release = w.hypervisor.Block("Start")
		restore, err := w.svc.DetachRestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: "d"})
		w.must(err)
		_, err = w.svc.CancelOperation(t.Context(), "", restore.ID)
		w.refuses(err, errdefs.ErrFailedPrecondition, "given up")
		release()
		w.ended(restore.ID)
		release = w.hypervisor.Block("PullLayer")
		deletion, err := w.svc.DetachDeleteSnapshot(t.Context(), sb, "d")
		w.must(err)
		_, err = w.svc.CancelOperation(t.Context(), "", deletion.ID)
		w.refuses(err, errdefs.ErrFailedPrecondition, "given back")
		release()
		w.ended(deletion.ID)
	})
}

// TestASnapshotTakesAsLongAsItComesFurther, and no longer: what makes no progress is given up, and libvirt told so.
func TestASnapshotTakesAsLongAsItComesFurther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.running("a")
		op, release := w.held(sb)
		defer release()
		for i := range int64(60) {
			w.hypervisor.SetProgress(sb, vm.Progress{Done: i + 1, Total: 100})
			time.Sleep(3 * time.Minute)
			synctest.Wait()
		}
		if now := w.operation(op.ID); now.State != vm.OperationRunning || now.Done != 60 {
			t.Fatalf("after three hours it is %+v", now)
		}
		for i := range int64(10) { // a guest that writes as fast as its memory is saved
			w.hypervisor.SetProgress(sb, vm.Progress{Done: 20 + i, Total: 100})
			time.Sleep(time.Minute)
			synctest.Wait()
		}
		now := w.operation(op.ID)
		if now.State != vm.OperationFailed || !strings.Contains(now.Error, "no progress") || w.count("AbortSaving "+sb) == 0 {
			t.Errorf("it is %+v", now)
		}
		if st := w.sandboxOf(sb).Status; len(st.Snapshots) > 0 {
			t.Errorf("left is %+v", st.Snapshots)
		}
	})
}

// TestASnapshotOutlivesVmlet: libvirt goes on with it, and the next life finds it.
func TestASnapshotOutlivesVmlet(t *testing.T) {
	for name, tc := range map[string]struct {
		before, after func(w *world, sb string, release func())
		want          vm.OperationState
	}{
		"still written":   {func(*world, string, func()) {}, func(_ *world, _ string, release func()) { release() }, vm.OperationSucceeded},
		"written by then": {func(_ *world, _ string, release func()) { release() }, func(*world, string, func()) {}, vm.OperationSucceeded},
		"cancelled in the next life": {func(*world, string, func()) {}, func(w *world, sb string, _ func()) {
			all, err := w.svc.Operations(sb)
			w.must(err)
			_, err = w.svc.CancelOperation(w.t.Context(), sb, all[0].ID)
			w.must(err)
		}, vm.OperationCancelled},
		"its VM ends": {func(*world, string, func()) {}, func(w *world, sb string, release func()) {
			w.hypervisor.PowerOff(sb)
			release()
		}, vm.OperationFailed},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				sb, _ := w.running("a")
				op, release := w.held(sb)
				defer release()
				w.die()
				tc.before(w, sb, release)
				synctest.Wait()
				w.start()
				synctest.Wait()
				tc.after(w, sb, release)
				if end := w.ended(op.ID); end.State != tc.want {
					t.Errorf("it is %+v", end)
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				snaps := w.sandboxOf(sb).Status.Snapshots
				if want := map[vm.OperationState]int{vm.OperationSucceeded: 1}[tc.want]; len(snaps) != want {
					t.Errorf("snapshots: %+v", snaps)
				}
				if tc.want == vm.OperationSucceeded {
					if snaps[0].State != vm.SnapshotReady || snaps[0].Memory.Size != vm.MiB {
						t.Errorf("it is %+v", snaps[0])
					}
					w.must(w.svc.RestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: "m"}))
				}
			})
		})
	}
}

// TestASnapshotThatLibvirtNeverBeganIsUndone: there is an intent, and no memory.
func TestASnapshotThatLibvirtNeverBeganIsUndone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.running("a")
		release := w.hypervisor.Block("Snapshot")
		op, err := w.svc.DetachSnapshot(t.Context(), sb, vm.SnapshotRequest{Name: "m", Memory: true})
		w.must(err)
		synctest.Wait()
		w.die()
		release()
		w.start()
		end := w.ended(op.ID)
		if end.State != vm.OperationFailed || !strings.Contains(end.Error, "restart of vmlet cut it short") {
			t.Errorf("it is %+v", end)
		}
		synctest.Wait()
		if st := w.sandboxOf(sb).Status; len(st.Snapshots)+len(st.Layers) > 0 {
			t.Errorf("left are %+v, %+v", st.Snapshots, st.Layers)
		}
	})
}

// TestACallWaitsForWhatIsAdopted: it must not take the snapshot that libvirt is at for one to be undone.
func TestACallWaitsForWhatIsAdopted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.running("a")
		_, release := w.held(sb)
		w.restart()
		ended := make(chan error, 1)
		go func() {
			_, err := w.svc.CreateSnapshot(t.Context(), sb, vm.SnapshotRequest{Name: "m", Memory: true})
			ended <- err
		}()
		synctest.Wait()
		release()
		w.refuses(<-ended, errdefs.ErrAlreadyExists, "of that name")
	})
}

// TestADeletionAndARestoreGoOnInTheNextLife, under their own names.
func TestADeletionAndARestoreGoOnInTheNextLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.running("a")
		for _, name := range []string{"one", "two"} {
			_, err := w.take(sb, name, false)
			w.must(err)
		}
		for range 2 {
			w.hypervisor.FailNext("Start", errdefs.ErrUnavailable)
		}
		restore, err := w.svc.DetachRestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: "one"})
		w.must(err)
		synctest.Wait()
		w.restart()
		if end := w.ended(restore.ID); end.State != vm.OperationSucceeded {
			t.Errorf("the restore is %+v", end)
		}
		w.hypervisor.Block("PullLayer")
		w.hypervisor.Block("CommitLayer")
		deletion, err := w.svc.DetachDeleteSnapshot(t.Context(), sb, "one")
		w.must(err)
		synctest.Wait()
		w.die()
		w.hypervisor.Block("PullLayer")()
		w.hypervisor.Block("CommitLayer")()
		w.start()
		if end := w.ended(deletion.ID); end.State != vm.OperationSucceeded {
			t.Errorf("the deletion is %+v", end)
		}
	})
}

func TestOldOperationsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.running("a")
		for i := range vm.OperationsKept + 4 {
			_, err := w.take(sb, fmt.Sprint("s", i), false)
			w.must(err)
		}
		all, err := w.svc.Operations(sb)
		if err != nil || len(all) != vm.OperationsKept || all[0].Subject != "s4" {
			t.Errorf("%d are kept, the first is %+v, %v", len(all), all[0], err)
		}
	})
}

func TestOperationsAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.running("a")
		ctx, cancel := context.WithCancel(t.Context())
		var got []string
		watched := make(chan error, 1)
		go func() {
			watched <- w.svc.Watch(ctx, sb, "", func(m vm.WatchMessage) error {
				if m.Event != nil && (m.Event.Kind == vm.OperationEvent || m.Event.Kind == vm.SnapshotCreatedEvent) {
					got = append(got, m.Event.Reason+" "+m.Event.Message)
				}
				return nil
			})
		}()
		synctest.Wait()
		_, err := w.take(sb, "s", false)
		w.must(err)
		synctest.Wait()
		cancel()
		if err := <-watched; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if want := []string{"running snapshot-create s", " ", "succeeded snapshot-create s"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// TestAMergeOfAVMThatIsOffHoldsUpNobody: it holds no lock, and who needs the disk interrupts it.
func TestAMergeOfAVMThatIsOffHoldsUpNobody(t *testing.T) {
	for name, call := range map[string]func(w *world, sb string) error{
		"start": func(w *world, sb string) error {
			c := w.created(sb, 1)
			synctest.Wait() // the merge has begun again
			return w.svc.StartContainer(w.t.Context(), c)
		},
		"resize": func(w *world, sb string) error {
			_, err := w.svc.ResizeDisk(w.t.Context(), sb, vm.RootDiskName, 64*vm.GiB, false)
			return err
		},
		"remove": func(w *world, sb string) error { return w.svc.RemoveSandbox(w.t.Context(), sb) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				sb, _ := w.running("a")
				_, err := w.take(sb, "s", false)
				w.must(err)
				w.hypervisor.PowerOff(sb)
				synctest.Wait()
				release := w.disks.Block("PullFile")
				op, err := w.svc.DetachDeleteSnapshot(t.Context(), sb, "s")
				w.must(err)
				synctest.Wait()
				begun := time.Now()
				w.must(call(w, sb))
				if took := time.Since(begun); took > time.Second {
					t.Errorf("it took %s", took)
				}
				release()
				if name != "remove" {
					if end := w.ended(op.ID); end.State != vm.OperationSucceeded {
						t.Errorf("the deletion is %+v", end)
					}
				}
				synctest.Wait()
				if _, err := w.svc.Sandbox(sb); name != "remove" && (err != nil || len(w.sandboxOf(sb).Status.Layers) > 0) {
					t.Errorf("%v: %+v", err, w.sandboxOf(sb).Status.Layers)
				}
			})
		})
	}
}
