// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/store"
	"github.com/vmlet/vmlet/pkg/vm"
)

// boots makes the next sandbox of the pod "a", which has a persistent disk, and boots it.
func (w *world) boots(attempt uint32) (sandboxID, containerID string) {
	w.t.Helper()
	sandboxID = w.podWith("a", attempt, persistent)
	containerID = w.created(sandboxID, 0)
	w.must(w.svc.StartContainer(w.t.Context(), containerID))
	return sandboxID, containerID
}

// put has the guest write to its disk.
func (w *world) put(sandboxID, value string) {
	w.t.Helper()
	chains, err := w.hypervisor.Chains(w.t.Context(), sandboxID)
	w.must(err)
	w.disks.Put(chains[0][0], "data", value)
}

// has holds what the guest reads against what it should.
func (w *world) has(sandboxID, want string) {
	w.t.Helper()
	chains, err := w.hypervisor.Chains(w.t.Context(), sandboxID)
	w.must(err)
	if got := w.disks.Get(chains[0][0], "data"); got != want {
		w.t.Errorf("the disk has %q, want %q", got, want)
	}
}

func (w *world) stopSandbox(id string) {
	w.t.Helper()
	w.must(w.svc.StopSandbox(w.t.Context(), id))
}

// onDisk lists the names of the files of the one persistent disk.
func (w *world) onDisk() (names []string) {
	w.t.Helper()
	for _, path := range w.disks.Files() {
		if strings.HasPrefix(path, w.node.Disks()) {
			names = append(names, filepath.Base(path))
		}
	}
	return names
}

// TestSnapshotsOfAPersistentDiskOutliveTheSandbox: they are the disk's. What of them is of a machine goes with that: memory.
func TestSnapshotsOfAPersistentDiskOutliveTheSandbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.boots(0)
		w.put(sb, "one")
		_, err := w.take(sb, "disk", false)
		w.must(err)
		w.put(sb, "two")
		memory, err := w.take(sb, "memory", true)
		w.must(err)
		w.put(sb, "three")
		if ops := w.sandboxOf(sb).Status.Operations; len(ops) != 2 || ops[1].Subject != "memory" || ops[1].State != vm.OperationSucceeded {
			t.Errorf("operations are %+v", ops)
		}
		if files := w.onDisk(); len(files) != 3 {
			t.Errorf("the disk's folder has %v", files)
		}
		if d := w.disk(); len(d.Snapshots) != 2 || d.Snapshots[1].SandboxID != sb || d.Snapshots[1].ParentName != "disk" || len(d.Layers) != 4 || !d.Layers[3].Shared {
			t.Errorf("listed as %+v", d)
		}
		w.must(w.svc.RestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: "memory"}))
		if got := w.count("StartFromMemory " + sb); got != 1 {
			t.Errorf("the guest went on in its memory %d times", got)
		}
		w.has(sb, "two")

		w.stopSandbox(sb)
		if w.there(w.node.SnapshotMemory(sb, memory.ID)) {
			t.Error("memory that no container can go on in is kept")
		}
		_, err = w.svc.Snapshots(t.Context(), sb)
		w.refuses(err, errdefs.ErrFailedPrecondition, "vmletctl disk ls")
		_, err = w.take(sb, "late", false)
		w.refuses(err, errdefs.ErrFailedPrecondition, "vmletctl disk ls")
		w.refuses(w.svc.RestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: "disk"}), errdefs.ErrFailedPrecondition, "vmletctl disk ls")
		w.refuses(w.svc.DeleteSnapshot(t.Context(), sb, "disk"), errdefs.ErrFailedPrecondition, "vmletctl disk ls")
		w.removeSandbox(sb)
		if d := w.disk(); len(d.Snapshots) != 2 || d.Snapshots[0].SandboxID != "" || d.Holder != nil {
			t.Errorf("listed as %+v", d)
		}

		sb, _ = w.boots(1)
		w.has(sb, "two")
		all, err := w.svc.Snapshots(t.Context(), sb)
		w.must(err)
		if len(all) != 2 || !all[1].Current || all[1].Memory != nil || !all[1].MemoryGone || all[1].Consistency != vm.ConsistencyCrash || all[1].SandboxID != sb {
			t.Errorf("listed are %+v", all)
		}
		w.refuses(w.svc.RestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: "memory"}), errdefs.ErrFailedPrecondition, "--disk-only")
		w.put(sb, "four")
		w.must(w.svc.RestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: "memory", DiskOnly: true}))
		w.has(sb, "two")
		w.must(w.svc.RestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: "disk"}))
		w.has(sb, "one")
		for _, name := range []string{"disk", "memory"} {
			w.must(w.svc.DeleteSnapshot(t.Context(), sb, name))
		}
		synctest.Wait()
		if files := w.onDisk(); len(files) != 1 {
			t.Errorf("left are %v", files)
		}
		w.has(sb, "one")
		w.removeSandbox(sb)
		w.removeDisk()
	})
}

// TestADiskIsRemovedWithItsSnapshots, also one that is in the middle of being made small.
func TestADiskIsRemovedWithItsSnapshots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.boots(0)
		for _, name := range []string{"one", "two"} {
			_, err := w.take(sb, name, true)
			w.must(err)
		}
		w.refuses(w.svc.RemoveDisk(t.Context(), w.disk().Key.Name()), errdefs.ErrFailedPrecondition, sb)
		w.refuses(w.svc.RemoveImage(t.Context(), testImage), errdefs.ErrFailedPrecondition, "persistent disk")
		w.removeSandbox(sb)
		w.removeDisk()
	})
}

// TestADiskIsGivenOnWithoutWorkAtIt: a merge that is under way when the sandbox is stopped is not at the files when the next
// one has them, which does the rest.
func TestADiskIsGivenOnWithoutWorkAtIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.boots(0)
		w.put(sb, "one")
		for _, name := range []string{"one", "two"} {
			_, err := w.take(sb, name, false)
			w.must(err)
		}
		w.stopContainer(c)
		release := w.disks.Block("PullFile")
		deleted := make(chan error, 1)
		go func() { deleted <- w.svc.DeleteSnapshot(t.Context(), sb, "two") }()
		synctest.Wait()
		w.stopSandbox(sb)
		w.refuses(<-deleted, errdefs.ErrAborted, "next pod")
		if d := w.disk(); len(d.Snapshots) != 2 || d.Snapshots[1].State != vm.SnapshotDeleting {
			t.Errorf("listed as %+v", d.Snapshots)
		}
		sb, _ = w.boots(1)
		w.has(sb, "one")
		release()
		time.Sleep(time.Minute)
		synctest.Wait()
		if all, err := w.svc.Snapshots(t.Context(), sb); err != nil || len(all) != 1 || len(w.onDisk()) != 2 {
			t.Errorf("listed are %+v, %v; files %v", all, err, w.onDisk())
		}
	})
}

// TestASnapshotThatASandboxIsStoppedUnderIsUndone before the next one takes the disk.
func TestASnapshotThatASandboxIsStoppedUnderIsUndone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.boots(0)
		w.put(sb, "one")
		release, ended := w.taking(sb, "s")
		w.stopSandbox(sb)
		for _, snap := range w.disk().Snapshots {
			if snap.State == vm.SnapshotCreating {
				t.Errorf("snapshot %+v is left to the next", snap)
			}
		}
		next, _ := w.boots(1)
		release()
		if err := <-ended; err == nil {
			t.Error("it was taken")
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		w.has(next, "one")
		if d := w.disk(); len(d.Snapshots) > 0 || len(w.onDisk()) != 1 {
			t.Errorf("left are %+v, %v", d.Snapshots, w.onDisk())
		}
	})
}

// TestARestoreThatASandboxIsStoppedUnderIsGivenUp: the next one finds the disk as it was before.
func TestARestoreThatASandboxIsStoppedUnderIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.boots(0)
		w.put(sb, "one")
		_, err := w.take(sb, "s", false)
		w.must(err)
		w.put(sb, "two")
		for range 9 {
			w.hypervisor.FailNext("Start", errdefs.ErrUnavailable)
		}
		w.refuses(w.svc.RestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: "s"}), errdefs.ErrUnavailable, "goes on")
		w.stopSandbox(sb)
		for errdefs.IsUnavailable(w.hypervisor.Start(t.Context(), "none")) {
			continue // the next one is not to fail
		}
		next, _ := w.boots(1)
		w.has(next, "two")
		time.Sleep(time.Hour)
		synctest.Wait()
		w.has(next, "two")
		if len(w.onDisk()) != 2 {
			t.Errorf("files %v", w.onDisk())
		}
	})
}

// TestAPersistentDisksSnapshotIsFinishedInTheNextLife: what was cut short is undone, wherever its record is, and the
// operation told as failed. One that was never begun is, too.
func TestAPersistentDisksSnapshotIsFinishedInTheNextLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.boots(0)
		_, err := w.take(sb, "kept", false)
		w.must(err)
		name, next := w.disk().Key.Name(), w.node.PersistentLayer(w.disk().ID, "next")
		w.edit(func(st *store.Store) error {
			_, err := st.Disks().Update(name, "test", func(d vm.PersistentDisk) (vm.PersistentDisk, error) {
				d.Status.Snapshots = append(slices.Clone(d.Status.Snapshots), vm.Snapshot{
					ID: "cut", Name: "cut", State: vm.SnapshotCreating, Machine: vm.DomainRunning,
					Disk: vm.SnapshotDisk{Container: d.Disk.Container, ImageID: d.Disk.ImageID, Layer: "next", Next: next},
				})
				return d, nil
			})
			if err == nil {
				_, err = st.Sandboxes().Update(sb, "test", func(sb vm.Sandbox) (vm.Sandbox, error) {
					for _, object := range []string{"cut", "never begun"} {
						sb.Status.Operations = append(slices.Clone(sb.Status.Operations), vm.Operation{
							ID: object, Kind: vm.OperationSnapshotCreate, Subject: object, Object: object, State: vm.OperationRunning,
						})
					}
					return sb, nil
				})
			}
			return err
		})
		time.Sleep(time.Hour)
		synctest.Wait()
		if d := w.disk(); len(d.Snapshots) != 1 || d.Snapshots[0].Name != "kept" {
			t.Errorf("snapshots are %+v", d.Snapshots)
		}
		for _, o := range w.sandboxOf(sb).Status.Operations {
			want := vm.OperationFailed
			if o.Subject == "kept" {
				want = vm.OperationSucceeded
			}
			if o.State != want {
				t.Errorf("operation %+v, want %s", o, want)
			}
		}
		_, err = w.take(sb, "cut", true)
		w.must(err)
	})
}

// TestAPersistentDiskIsResizedWithSnapshots, which keep the size that it had.
func TestAPersistentDiskIsResizedWithSnapshots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.boots(0)
		before := w.disk().Disk.Size
		_, err := w.take(sb, "small", false)
		w.must(err)
		_, err = w.svc.ResizeDisk(t.Context(), sb, vm.RootDiskName, 8*vm.GiB, false)
		w.must(err)
		if d := w.disk(); d.Disk.Size != 8*vm.GiB || d.Snapshots[0].Disk.Size != before {
			t.Errorf("the disk has %d bytes, its snapshot %d", d.Disk.Size, d.Snapshots[0].Disk.Size)
		}
		w.must(w.svc.RestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: "small"}))
		if d := w.disk(); d.Disk.Size != before {
			t.Errorf("restored, the disk has %d bytes", d.Disk.Size)
		}
	})
}
