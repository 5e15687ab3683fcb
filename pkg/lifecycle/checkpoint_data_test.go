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

	"github.com/vmlet/vmlet/pkg/lifecycle"
	"github.com/vmlet/vmlet/pkg/vm"
)

// withData makes a VM with "one" on its root disk and on its data disk.
func (w *world) withData() (sandboxID string) {
	w.t.Helper()
	sb, _ := w.running("a")
	w.attach(sb, "data", bySize)
	w.putBoth(sb, "one")
	return sb
}

// dataCheckpoint makes a checkpoint of such a VM, and removes its pod.
func (w *world) dataCheckpoint() vm.Checkpoint {
	w.t.Helper()
	sb := w.withData()
	from, err := w.svc.Checkpoint(w.t.Context(), sb, checkpointDir)
	w.must(err)
	synctest.Wait()
	w.must(w.svc.RemoveSandbox(w.t.Context(), sb))
	return from
}

// TestACheckpointHasTheDisksThatAreOurs, of its moment, with all that is in layers below them; and the VM has them as before. In the pod
// that is restored they are disks like any other.
func TestACheckpointHasTheDisksThatAreOurs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb := w.withData()
		w.attach(sb, "away", bySize)
		scsi := bySize
		scsi.Bus = vm.BusSCSI
		w.disks.Put(w.attach(sb, "other", scsi).Path, "data", "scsi")
		w.detach(sb, "away", vm.DetachRequest{})
		_, err := w.take(sb, "mine", false)
		w.must(err)
		w.putBoth(sb, "two")
		w.disks.Put(w.dataDisk(sb, "data").Path, "since", "the snapshot")
		_, err = w.svc.ResizeDisk(t.Context(), sb, "data", 2*bySize.Size, false)
		w.must(err)
		was := w.dataDisk(sb, "data")

		from, err := w.svc.Checkpoint(t.Context(), sb, checkpointDir)
		w.must(err)
		synctest.Wait()
		w.putBoth(sb, "three")
		if st := w.sandboxOf(sb).Status; len(st.Snapshots) != 1 || len(st.Layers) != 3 {
			t.Errorf("after it, the sandbox has %+v, %+v", st.Snapshots, st.Layers)
		}
		if from.Version != vm.CheckpointVersion || len(from.Files) != 4 || len(from.DataDisks) != 2 {
			t.Errorf("the manifest is %+v", from)
		}
		for _, d := range from.DataDisks {
			if d.Path != "" || d.Layer != "" {
				t.Errorf("the manifest tells where a disk of %s was: %+v", sb, d)
			}
		}
		w.must(w.svc.RemoveSandbox(t.Context(), sb))

		pod, err := w.svc.RestorePod(t.Context(), restoreOf("a"))
		w.must(err)
		w.must(w.svc.StartContainer(t.Context(), pod.ContainerID))
		synctest.Wait()
		sb = pod.SandboxID
		w.hasBoth(sb, "two")
		d := w.dataDisk(sb, "data")
		if d.ID == was.ID || d.Path == was.Path || d.Layer != "" || d.Target != was.Target || d.Serial != was.Serial || d.Size != 2*bySize.Size || d.Spec != was.Spec {
			t.Errorf("the disk is %+v, was %+v", d, was)
		}
		if got := w.disks.Get(d.Path, "since"); got != "the snapshot" {
			t.Errorf("it has %q of what came after a snapshot", got)
		}
		if got := w.disks.Get(w.dataDisk(sb, "other").Path, "data"); got != "scsi" {
			t.Errorf("the other disk has %q", got)
		}
		if live := w.live(sb); !slices.Equal(live, []string{"vdc", "sdc"}) || w.dataDisk(sb, "away").State != "" {
			t.Errorf("the machine has %q, and on record is %+v", live, w.dataDisk(sb, "away"))
		}

		w.attach(sb, "data", bySize) // the same call finds it
		_, err = w.take(sb, "s", true)
		w.must(err)
		w.putBoth(sb, "four")
		w.must(w.svc.RestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: "s"}))
		w.hasBoth(sb, "two")
		w.must(w.svc.DeleteSnapshot(t.Context(), sb, "s"))
		w.detach(sb, "other", vm.DetachRequest{Delete: true})
		w.nothingBelow(sb)
		w.hypervisor.PowerOff(sb)
		synctest.Wait()
		w.must(w.svc.StartContainer(t.Context(), w.created(sb, 1)))
		w.hasBoth(sb, "two")
		w.must(w.svc.RemoveSandbox(t.Context(), sb))
		w.nothingLeft()
	})
}

// TestACheckpointIsOfTheOldestVersionThatSaysIt: vmlets of before restore those without such disks, and refuse the others.
func TestACheckpointIsOfTheOldestVersionThatSaysIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		if c := w.checkpointed(); c.Version != 2 {
			t.Errorf("without data disks it is of version %d", c.Version)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		if c := w.dataCheckpoint(); c.Version != 3 {
			t.Errorf("with one it is of version %d", c.Version)
		}
	})
}

// TestACheckpointOfDataDisksThatFailsLeavesNothing, at the root disk or after it: neither in its folder nor under the disks.
func TestACheckpointOfDataDisksThatFailsLeavesNothing(t *testing.T) {
	for step, calls := range map[string]int{"CreateRoot": 4, "PullFile": 2, "SetBase": 2, "WriteCheckpoint": 3, "RemoveFile": 2} {
		for done := range calls {
			t.Run(fmt.Sprint(step, done), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t)
					sb := w.withData()
					for range done {
						w.disks.FailNext(step, nil)
					}
					w.disks.FailNext(step, errdefs.ErrResourceExhausted)
					_, err := w.svc.Checkpoint(t.Context(), sb, checkpointDir)
					w.refuses(err, errdefs.ErrResourceExhausted, "")
					if got := w.disks.CheckpointsIn(); len(got) > 0 {
						t.Errorf("left are %v", got)
					}
					time.Sleep(time.Minute)
					w.hasBoth(sb, "one")
					w.nothingBelow(sb)
					for _, file := range w.disks.Files() {
						if strings.Contains(file, "checkpoint-") && strings.HasSuffix(file, ".qcow2") || strings.Contains(file, "memory") {
							t.Errorf("%s is left", file)
						}
					}
					_, err = w.svc.Checkpoint(t.Context(), sb, checkpointDir)
					w.must(err)
				})
			})
		}
	}
}

// TestARestoreOfDataDisksThatFailsLeavesNothing: neither a file nor a record.
func TestARestoreOfDataDisksThatFailsLeavesNothing(t *testing.T) {
	for name, fail := range map[string]func(w *world){
		"root": func(w *world) { w.disks.FailNext("FetchDisk", errdefs.ErrResourceExhausted) },
		"data": func(w *world) {
			w.disks.FailNext("FetchDisk", nil)
			w.disks.FailNext("FetchDisk", errdefs.ErrResourceExhausted)
		},
		"later": func(w *world) { w.hypervisor.FailNext("Define", errdefs.ErrResourceExhausted) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.dataCheckpoint()
				fail(w)
				_, err := w.svc.RestorePod(t.Context(), restoreOf("a"))
				w.refuses(err, errdefs.ErrResourceExhausted, "")
				w.nothingLeft()
				_, err = w.svc.RestorePod(t.Context(), restoreOf("a"))
				w.must(err)
			})
		})
	}
}

// TestADataDiskIsOnRecordBeforeItsFile: so the vmlet after one that was killed finds what to remove.
func TestADataDiskIsOnRecordBeforeItsFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.dataCheckpoint()
		w.disks.FailNext("FetchDisk", nil)
		release := w.disks.Block("FetchMemory") // between the root disk and the data disk
		ended := make(chan error, 1)
		go func() {
			_, err := w.svc.RestorePod(t.Context(), restoreOf("a"))
			ended <- err
		}()
		synctest.Wait()
		all := w.store.Sandboxes().List()
		if len(all) != 1 || len(all[0].Status.DataDisks) != 1 {
			t.Fatalf("on record is %+v", all)
		}
		if _, there := w.disks.File(all[0].Status.DataDisks[0].Path); there {
			t.Error("its file is there already")
		}
		release()
		w.must(<-ended)
		_, err := w.store.Sandboxes().Update(all[0].ID, "as a life before has left it", func(sb vm.Sandbox) (vm.Sandbox, error) {
			sb.Status.State = vm.SandboxCreating
			return sb, nil
		})
		w.must(err)
		w.restart()
		w.nothingLeft()
	})
}

// TestWhatACheckpointSaysOfItsDisksIsJudgedFirst: before anything is done.
func TestWhatACheckpointSaysOfItsDisksIsJudgedFirst(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil func(w *world)
		class error
		words string
	}{
		"gate": {func(w *world) { w.svc.SetGates(lifecycle.Gates{"": {vm.GateDiskAdd: true}}) }, errdefs.ErrFailedPrecondition, "gates.hotplug.disk.add"},
		"no file": {func(w *world) {
			w.disks.ChangeManifest(checkpointDir, func(c *vm.Checkpoint) { c.Files = c.Files[:1] })
		}, errdefs.ErrDataLoss, "lists no"},
		"by path": {func(w *world) {
			w.source("/srv/data")
			w.disks.ChangeManifest(checkpointDir, func(c *vm.Checkpoint) { c.DataDisks[0].Spec = byPath("/srv/data") })
		}, errdefs.ErrFailedPrecondition, "could write to"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.dataCheckpoint()
				tc.spoil(w)
				before := w.network.Calls()
				_, err := w.svc.RestorePod(t.Context(), restoreOf("a"))
				w.refuses(err, tc.class, tc.words)
				if calls := w.network.Calls(); len(calls) != len(before) {
					t.Errorf("called %v", calls[len(before):])
				}
				w.nothingLeft()
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.dataCheckpoint()
		w.disks.SpoilCheckpoint(checkpointDir, vm.CheckpointData("vdc"))
		_, err := w.svc.RestorePod(t.Context(), restoreOf("a"))
		w.refuses(err, errdefs.ErrDataLoss, vm.CheckpointData("vdc"))
		w.nothingLeft()
	})
}

// TestADataDiskThatChangesMeanwhileIsNotWritten: the manifest would say another size than the file has.
func TestADataDiskThatChangesMeanwhileIsNotWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb := w.withData()
		release := w.disks.Block("PlanCheckpoint") // the machine was looked at, and its memory is not taken yet
		ended := make(chan error, 1)
		go func() {
			_, err := w.svc.Checkpoint(t.Context(), sb, checkpointDir)
			ended <- err
		}()
		w.must(w.disks.WaitCall(t.Context(), "PlanCheckpoint "+checkpointDir))
		_, err := w.svc.ResizeDisk(t.Context(), sb, "data", 2*bySize.Size, false)
		w.must(err)
		release()
		w.refuses(<-ended, errdefs.ErrUnavailable, "try again")
		if got := w.disks.CheckpointsIn(); len(got) > 0 {
			t.Errorf("left are %v", got)
		}
		_, err = w.svc.Checkpoint(t.Context(), sb, checkpointDir)
		w.must(err)
	})
}

// TestDataDisksBesideAPersistentRootDiskAreInNoCheckpoint: the root disk stands in the way.
func TestDataDisksBesideAPersistentRootDiskAreInNoCheckpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.boots(0)
		w.attach(sb, "data", bySize)
		_, err := w.svc.Checkpoint(t.Context(), sb, checkpointDir)
		w.refuses(err, errdefs.ErrFailedPrecondition, "its root disk is persistent")
		if got := w.disks.CheckpointsIn(); len(got) > 0 {
			t.Errorf("left are %v", got)
		}
	})
}
