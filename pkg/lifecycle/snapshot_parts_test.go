// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/store"
	"github.com/vmlet/vmlet/pkg/vm"
)

// putBoth has the guest write to its root disk and to its first data disk.
func (w *world) putBoth(sandboxID, value string) {
	w.t.Helper()
	w.put(sandboxID, value)
	w.disks.Put(w.dataDisk(sandboxID, "data").Path, "data", value)
}

func (w *world) hasBoth(sandboxID, want string) {
	w.t.Helper()
	w.has(sandboxID, want)
	d := w.dataDisk(sandboxID, "data")
	chains, err := w.hypervisor.Chains(w.t.Context(), sandboxID)
	w.must(err)
	if !slices.ContainsFunc(chains, func(files []string) bool { return files[0] == d.Path }) {
		w.t.Errorf("QEMU writes to %q, and on record is %s", chains, d.Path)
	}
	if got := w.disks.Get(d.Path, "data"); got != want {
		w.t.Errorf("the data disk has %q, want %q", got, want)
	}
}

// nothingBelow proves that no layer and no file is left of snapshots of a VM with one data disk.
func (w *world) nothingBelow(sandboxID string) {
	w.t.Helper()
	synctest.Wait()
	if st := w.sandboxOf(sandboxID).Status; len(st.Layers)+len(st.Snapshots) > 0 {
		w.t.Errorf("left: %+v, %+v", st.Layers, st.Snapshots)
	}
	for _, path := range w.disks.Files() {
		if strings.Contains(path, "/data-") && path != w.dataDisk(sandboxID, "data").Path {
			w.t.Errorf("%s is left", path)
		}
	}
}

// TestASnapshotHasTheDisksThatAreOurs, taken in one moment with the root disk, and says which it has not.
func TestASnapshotHasTheDisksThatAreOurs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.running("a")
		w.source("/srv/rw")
		ro := byPath("/srv/ro")
		ro.ReadOnly = true
		w.disks.AddSource("/srv/ro", vm.DiskSource{Identity: "file 1:3", Size: vm.MiB})
		w.attach(sb, "data", bySize)
		w.attach(sb, "raw", byPath("/srv/rw"))
		w.attach(sb, "iso", ro)
		w.putBoth(sb, "one")
		one, err := w.take(sb, "one", false)
		w.must(err)
		if len(one.DataDisks) != 1 || one.DataDisks[0].Name != "data" || one.DataDisks[0].Size != bySize.Size || one.Used != 2*uint64(vm.MiB) ||
			!slices.Equal(one.LeftOut, []string{"raw"}) {
			t.Errorf("it is told as %+v", one)
		}
		if n := w.count("Snapshot " + sb); n != 1 {
			t.Errorf("libvirt was asked %d times", n)
		}
		_, err = w.take(sb, "memory", true)
		w.refuses(err, errdefs.ErrFailedPrecondition, "(raw: ")
		w.detach(sb, "raw", vm.DetachRequest{})
		w.putBoth(sb, "two")
		_, err = w.take(sb, "memory", true)
		w.must(err)
		w.putBoth(sb, "three")
		_, err = w.svc.ResizeDisk(t.Context(), sb, "data", 2*bySize.Size, false)
		w.must(err)

		for _, name := range []string{"memory", "one"} {
			w.must(w.svc.RestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: name}))
			synctest.Wait() // layers that nothing needs are tidied behind it
			w.hasBoth(sb, map[string]string{"memory": "two", "one": "one"}[name])
			if d := w.dataDisk(sb, "data"); d.Size != bySize.Size {
				t.Errorf("restored to %s, it has %d bytes", name, d.Size)
			}
		}
		disks, err := w.svc.VMDisks(t.Context(), sb)
		w.must(err)
		if layers := disks[2].Layers; len(layers) != 2 || layers[1].Path == layers[0].Path || layers[1].Allocated == 0 || layers[1].Shared {
			t.Errorf("the data disk is told with %+v", layers)
		}
		w.must(w.svc.DeleteSnapshot(t.Context(), sb, "one"))
		w.hasBoth(sb, "one")
		w.must(w.svc.DeleteSnapshot(t.Context(), sb, "memory"))
		w.hasBoth(sb, "one")
		w.nothingBelow(sb)
	})
}

// TestADataDiskOfAVMThatIsOffIsTakenAndPutBack, and the next machine has it.
func TestADataDiskOfAVMThatIsOffIsTakenAndPutBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.running("a")
		w.attach(sb, "data", bySize)
		w.putBoth(sb, "one")
		w.hypervisor.PowerOff(sb)
		synctest.Wait()
		_, err := w.take(sb, "off", false)
		w.must(err)
		w.must(w.svc.StartContainer(t.Context(), w.created(sb, 1)))
		w.putBoth(sb, "two")
		w.hypervisor.PowerOff(sb)
		synctest.Wait()
		w.disks.FailNext("CreateRoot", errdefs.ErrResourceExhausted)
		w.refuses(w.svc.RestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: "off"}), errdefs.ErrResourceExhausted, "")
		w.must(w.svc.RestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: "off"}))
		w.must(w.svc.DeleteSnapshot(t.Context(), sb, "off"))
		w.must(w.svc.StartContainer(t.Context(), w.created(sb, 2)))
		w.hasBoth(sb, "one")
		w.nothingBelow(sb)
	})
}

// TestADiskThatSnapshotsHaveIsKept: it is detached, and its file stays; without it nothing is restored.
func TestADiskThatSnapshotsHaveIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.running("a")
		w.attach(sb, "data", bySize)
		w.putBoth(sb, "one")
		_, err := w.take(sb, "m", true)
		w.must(err)
		w.putBoth(sb, "two")
		w.refuses(w.svc.DetachDisk(t.Context(), sb, "data", vm.DetachRequest{Delete: true}), errdefs.ErrFailedPrecondition, "(m)")
		w.detach(sb, "data", vm.DetachRequest{})
		w.refuses(w.svc.DetachDisk(t.Context(), sb, "data", vm.DetachRequest{Delete: true}), errdefs.ErrFailedPrecondition, "(m)")
		w.refuses(w.svc.RestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: "m"}), errdefs.ErrFailedPrecondition, `"data" of the snapshot was detached since`)
		w.has(sb, "two")

		w.attach(sb, "other", bySize) // where it was
		w.attach(sb, "data", bySize)
		w.hasBoth(sb, "two")
		w.refuses(w.svc.RestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: "m"}), errdefs.ErrFailedPrecondition, `disk "data" as vdc`)
		w.must(w.svc.RestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: "m", DiskOnly: true}))
		w.hasBoth(sb, "one")
		if live := w.live(sb); !slices.Equal(live, []string{"vdc", "vdd"}) {
			t.Errorf("the machine has %q", live)
		}

		w.hypervisor.HoldDisks(true)
		ended := make(chan error, 1)
		go func() { ended <- w.svc.DetachDisk(t.Context(), sb, "data", vm.DetachRequest{}) }()
		synctest.Wait()
		_, err = w.take(sb, "between", false)
		w.refuses(err, errdefs.ErrUnavailable, `"data" is Detaching`)
		w.refuses(w.svc.RestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: "m", DiskOnly: true}), errdefs.ErrUnavailable, `"data" is Detaching`)
		w.hypervisor.HoldDisks(false)
		w.must(<-ended)
		w.must(w.svc.DeleteSnapshot(t.Context(), sb, "m"))
		w.detach(sb, "data", vm.DetachRequest{Delete: true})
		w.detach(sb, "other", vm.DetachRequest{Delete: true})
		w.nothingBelow(sb)
	})
}

// TestADiskIsAttachedWhileWhatIsUnderItIsMerged: the merge makes way, and goes on with the guest.
func TestADiskIsAttachedWhileWhatIsUnderItIsMerged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.running("a")
		w.attach(sb, "data", bySize)
		w.putBoth(sb, "one")
		_, err := w.take(sb, "s", false)
		w.must(err)
		w.detach(sb, "data", vm.DetachRequest{})
		release := w.disks.Block("PullFile")
		defer release()
		ended := make(chan error, 1)
		go func() { ended <- w.svc.DeleteSnapshot(t.Context(), sb, "s") }()
		w.must(w.disks.WaitCall(t.Context(), "PullFile "+w.dataDisk(sb, "data").Path))
		w.attach(sb, "data", bySize)
		w.must(<-ended)
		w.hasBoth(sb, "one")
		w.nothingBelow(sb)
	})
}

// TestADiskIsDeletedWhileWhatIsUnderItIsMerged, with all that was under it.
func TestADiskIsDeletedWhileWhatIsUnderItIsMerged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.running("a")
		w.attach(sb, "data", bySize)
		_, err := w.take(sb, "s", false)
		w.must(err)
		w.detach(sb, "data", vm.DetachRequest{})
		release := w.disks.Block("PullFile")
		defer release()
		ended := make(chan error, 1)
		go func() { ended <- w.svc.DeleteSnapshot(t.Context(), sb, "s") }()
		w.must(w.disks.WaitCall(t.Context(), "PullFile "+w.dataDisk(sb, "data").Path))
		w.detach(sb, "data", vm.DetachRequest{Delete: true})
		w.must(<-ended)
		w.nothingBelow(sb)
	})
}

// TestDataDisksBesideAPersistentRootDiskAreLeftOut: its snapshots outlive them.
func TestDataDisksBesideAPersistentRootDiskAreLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.boots(0)
		w.attach(sb, "data", bySize)
		w.putBoth(sb, "one")
		_, err := w.take(sb, "m", true)
		w.refuses(err, errdefs.ErrFailedPrecondition, "(data: beside a persistent root disk")
		s, err := w.take(sb, "s", false)
		w.must(err)
		if len(s.DataDisks) > 0 || !slices.Equal(s.LeftOut, []string{"data"}) {
			t.Errorf("it is told as %+v", s)
		}
		w.putBoth(sb, "two")
		w.must(w.svc.RestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: "s"}))
		w.has(sb, "one")
		if got := w.disks.Get(w.dataDisk(sb, "data").Path, "data"); got != "two" {
			t.Errorf("the data disk has %q", got)
		}
		w.detach(sb, "data", vm.DetachRequest{Delete: true})
	})
}

// TestASnapshotThatWasCutShortIsOfAllDisksOrOfNone: where no QEMU can say, all new files are there, or no guest has written to any.
func TestASnapshotThatWasCutShortIsOfAllDisksOrOfNone(t *testing.T) {
	for made := range 3 {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			sb, c := w.running("a")
			w.attach(sb, "data", bySize)
			w.putBoth(sb, "one")
			w.hypervisor.PowerOff(sb)
			synctest.Wait()
			root, data := w.sandboxOf(sb).Status.Disks[0], w.dataDisk(sb, "data")
			next := []string{w.node.LayeredDisk(sb, "root2"), w.node.DataDisk(sb, "data2")}
			for i, below := range []string{root.Path, data.Path}[:made] {
				w.must(w.disks.CreateRoot(t.Context(), vm.Disk{Path: next[i], Backing: below, BackingFormat: vm.FormatQCOW2, Size: vm.MiB}))
				w.disks.Put(next[i], "data", "two")
			}
			w.edit(func(st *store.Store) error {
				_, err := st.Sandboxes().Update(sb, "as a life before has left it", func(sb vm.Sandbox) (vm.Sandbox, error) {
					sb.Status.Snapshots = []vm.Snapshot{{
						ID: "cut", Name: "cut", State: vm.SnapshotCreating, Machine: vm.DomainRunning, ContainerID: c,
						Disk:      vm.SnapshotDisk{Container: root.Container, ImageID: root.ImageID, Layer: "root2", Next: next[0]},
						DataDisks: []vm.SnapshotPart{{DiskID: data.ID, Name: "data", Layer: "data2", Next: next[1]}},
					}}
					return sb, nil
				})
				return err
			})
			time.Sleep(time.Hour)
			w.must(w.svc.StartContainer(t.Context(), w.created(sb, 1)))
			w.hasBoth(sb, map[bool]string{true: "two", false: "one"}[made == 2])
			time.Sleep(time.Hour)
			w.nothingBelow(sb)
		})
	}
}

// TestARestoreThatCannotBePutsAllDisksBack: the VM ends, with its disks as they were.
func TestARestoreThatCannotBePutsAllDisksBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.running("a")
		w.attach(sb, "data", bySize)
		w.putBoth(sb, "one")
		_, err := w.take(sb, "s", false)
		w.must(err)
		w.putBoth(sb, "two")
		w.hypervisor.FailNext("Start", errdefs.ErrInternal)
		w.refuses(w.svc.RestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: "s"}), errdefs.ErrInternal, "")
		w.must(w.svc.StartContainer(t.Context(), w.created(sb, 1)))
		w.hasBoth(sb, "two")
		w.must(w.svc.RestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: "s"}))
		w.hasBoth(sb, "one")
		w.must(w.svc.DeleteSnapshot(t.Context(), sb, "s"))
		w.nothingBelow(sb)
	})
}
