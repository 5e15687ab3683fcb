// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// TestACheckpointIsAnOperation: it is found, tells how far each of its parts is, and how it has ended.
func TestACheckpointIsAnOperation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.running("a")
		saved, copied := w.hypervisor.HoldSaving(sb), w.disks.Block("WriteCheckpoint")
		op, err := w.svc.DetachCheckpoint(t.Context(), "default/a", checkpointDir)
		w.must(err)
		if op.State != vm.OperationRunning || op.Kind != vm.OperationCheckpoint || op.Subject != checkpointDir || op.SandboxID != sb {
			t.Errorf("it is %+v", op)
		}
		far := func(want vm.Progress) {
			t.Helper()
			time.Sleep(time.Second)
			synctest.Wait()
			if now := w.operation(op.ID); now.Progress != want || !now.Cancellable {
				t.Errorf("it is %+v, want %+v", now, want)
			}
		}
		w.hypervisor.SetProgress(sb, vm.Progress{Done: 99, Total: 100})
		far(vm.Progress{Done: 99, Total: 100})
		saved()
		far(vm.Progress{Done: vm.MiB / 2, Total: vm.MiB})
		copied()
		if end := w.ended(op.ID); end.State != vm.OperationSucceeded {
			t.Errorf("it is %+v", end)
		}
		if c, err := w.svc.CheckpointIn(t.Context(), checkpointDir); err != nil || c.SandboxID != sb {
			t.Errorf("there is %+v, %v", c, err)
		}
		_, err = w.svc.CancelOperation(t.Context(), "", op.ID)
		w.refuses(err, errdefs.ErrFailedPrecondition, "succeeded already")
		_, err = w.svc.DetachCheckpoint(t.Context(), sb, checkpointDir)
		w.refuses(err, errdefs.ErrAlreadyExists, "not empty")
		_, err = w.svc.CheckpointIn(t.Context(), checkpointDir+"/none")
		w.refuses(err, errdefs.ErrNotFound, "checkpoint")
		w.restart()
		if all, err := w.svc.Operations(sb); err != nil || len(all) != 1 || all[0].State != vm.OperationSucceeded {
			t.Errorf("in the next life there are %+v, %v", all, err)
		}
	})
}

// TestACheckpointCanBeCancelledAtAnyMoment, and nothing is left of it.
func TestACheckpointCanBeCancelledAtAnyMoment(t *testing.T) {
	for name, hold := range map[string]func(w *world, sb string) func(){
		"saved":   func(w *world, sb string) func() { return w.hypervisor.HoldSaving(sb) },
		"merged":  func(w *world, _ string) func() { return w.disks.Block("PullFile") },
		"copied":  func(w *world, _ string) func() { return w.disks.Block("WriteCheckpoint") },
		"written": func(w *world, _ string) func() { return w.disks.Block("EndCheckpoint") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				sb, c := w.running("a")
				files := len(w.disks.Files())
				release := hold(w, sb)
				defer release()
				op, err := w.svc.DetachCheckpoint(t.Context(), sb, checkpointDir)
				w.must(err)
				synctest.Wait()
				end, err := w.svc.CancelOperation(t.Context(), "", op.ID)
				if err != nil || end.State != vm.OperationCancelled || end.Error != "" {
					t.Errorf("it is %+v, %v", end, err)
				}
				if got := w.disks.CheckpointsIn(); len(got) > 0 {
					t.Errorf("left are %v", got)
				}
				release()
				time.Sleep(time.Minute)
				synctest.Wait()
				if st := w.sandboxOf(sb).Status; len(st.Snapshots)+len(st.Layers) > 0 || len(w.disks.Files()) > files+1 {
					t.Errorf("left are %+v, %+v, %v", st.Snapshots, st.Layers, w.disks.Files())
				}
				if w.container(c).Status.State != vm.ContainerRunning {
					t.Errorf("the container is %+v", w.container(c).Status)
				}
				_, err = w.svc.Checkpoint(t.Context(), sb, checkpointDir)
				w.must(err)
			})
		})
	}
}

// TestACancelThatLeavesSomethingSaysSo: who is told that it was cancelled relies on finding nothing. It is removed a little later.
func TestACancelThatLeavesSomethingSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.running("a")
		release := w.disks.Block("EndCheckpoint")
		defer release()
		op, err := w.svc.DetachCheckpoint(t.Context(), sb, checkpointDir)
		w.must(err)
		synctest.Wait()
		w.disks.FailNext("RemoveCheckpoint", errdefs.ErrUnavailable)
		_, err = w.svc.CancelOperation(t.Context(), "", op.ID)
		w.refuses(err, errdefs.ErrFailedPrecondition, "has failed already")
		if end := w.operation(op.ID); end.State != vm.OperationFailed || !strings.Contains(end.Error, "undo incomplete") {
			t.Errorf("it is %+v", end)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := w.disks.CheckpointsIn(); len(got) > 0 {
			t.Errorf("left are %v", got)
		}
	})
}

// TestACallerThatLeavesCancelsItsCheckpoint, also one that has not begun: then there is no operation.
func TestACallerThatLeavesCancelsItsCheckpoint(t *testing.T) {
	for name, tc := range map[string]struct {
		hold func(w *world, sb string) func()
		want []vm.OperationState
	}{
		"waits": {func(w *world, sb string) func() { _, release := w.held(sb); return release }, nil},
		"saved": {func(w *world, sb string) func() { return w.hypervisor.HoldSaving(sb) }, []vm.OperationState{vm.OperationCancelled}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				sb, _ := w.running("a")
				release := tc.hold(w, sb)
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				begun := time.Now()
				_, err := w.svc.Checkpoint(ctx, sb, checkpointDir)
				w.refuses(err, context.DeadlineExceeded, "ended with its caller")
				if took := time.Since(begun); took > 2*time.Second {
					t.Errorf("it took %s", took)
				}
				release()
				synctest.Wait()
				all, err := w.svc.Operations(sb)
				w.must(err)
				var got []vm.OperationState
				for _, o := range all {
					if o.Kind == vm.OperationCheckpoint {
						got = append(got, o.State)
					}
				}
				if !slices.Equal(got, tc.want) || len(w.disks.CheckpointsIn()) > 0 {
					t.Errorf("operations %v, left are %v", got, w.disks.CheckpointsIn())
				}
			})
		})
	}
}

// TestACheckpointIsUndoneByTheNextLife, which says so.
func TestACheckpointIsUndoneByTheNextLife(t *testing.T) {
	for name, hold := range map[string]func(w *world, sb string) func(){
		"saved":  func(w *world, sb string) func() { return w.hypervisor.HoldSaving(sb) },
		"copied": func(w *world, _ string) func() { return w.disks.Block("WriteCheckpoint") },
	} {
		for _, killed := range []bool{true, false} {
			t.Run(name+map[bool]string{true: ", killed", false: ", stopped"}[killed], func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t)
					sb, c := w.running("a")
					release := hold(w, sb)
					defer release()
					op, err := w.svc.DetachCheckpoint(t.Context(), sb, checkpointDir)
					w.must(err)
					synctest.Wait()
					if killed {
						w.die()
						w.start()
					} else {
						begun := time.Now()
						w.restart()
						if took := time.Since(begun); took > time.Second {
							t.Errorf("vmlet took %s to stop", took)
						}
					}
					end := w.ended(op.ID)
					if end.State != vm.OperationFailed || !strings.Contains(end.Error, "restart of vmlet cut it short") {
						t.Errorf("it is %+v", end)
					}
					release()
					time.Sleep(time.Minute)
					synctest.Wait()
					if got := w.disks.CheckpointsIn(); len(got) > 0 {
						t.Errorf("left are %v", got)
					}
					if st := w.sandboxOf(sb).Status; len(st.Snapshots)+len(st.Layers) > 0 || w.container(c).Status.State != vm.ContainerRunning {
						t.Errorf("left are %+v, %+v; the container is %s", st.Snapshots, st.Layers, w.container(c).Status.State)
					}
				})
			})
		}
	}
}

// TestEachPartOfLongWorkHasItsTime: that much more is left of the next one than was of the last is no lack of progress.
func TestEachPartOfLongWorkHasItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.running("a")
		w.attach(sb, "data", vm.DataDiskSpec{Size: vm.MiB})
		_, err := w.take(sb, "s", false)
		w.must(err)
		first := w.hypervisor.Block("PullLayer")
		ended := make(chan error, 1)
		go func() { ended <- w.svc.DeleteSnapshot(t.Context(), sb, "s") }()
		w.hypervisor.SetProgress(sb, vm.Progress{Done: 99, Total: 100})
		time.Sleep(time.Second)
		second := w.hypervisor.Block("PullLayer")
		first()
		for i := range int64(10) {
			w.hypervisor.SetProgress(sb, vm.Progress{Done: i, Total: 100})
			time.Sleep(3 * time.Minute)
		}
		second()
		w.must(<-ended)
	})
}
