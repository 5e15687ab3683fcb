// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/annotations"
	"github.com/vmlet/vmlet/pkg/lifecycle"
	"github.com/vmlet/vmlet/pkg/store"
	"github.com/vmlet/vmlet/pkg/vm"
)

// What pods ask of their root disks.
var (
	fresh      = map[string]string{annotations.RootDisk: "fresh"}
	persistent = map[string]string{annotations.RootDisk: "persistent"}
	claimed    = map[string]string{annotations.RootDisk: "persistent", annotations.RootDiskClaim: "data"}
)

// podWith runs the sandbox of a pod with annotations.
func (w *world) podWith(name string, attempt uint32, asks map[string]string) string {
	w.t.Helper()
	spec := podSpec(name)
	spec.Attempt, spec.Annotations = attempt, asks
	id, err := w.svc.RunSandbox(w.t.Context(), spec)
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

// rootOf is the root disk that the sandbox's domain boots from.
func (w *world) rootOf(sandboxID string) string {
	w.t.Helper()
	m, ok := w.hypervisor.Machine(sandboxID)
	if !ok {
		w.t.Fatalf("sandbox %s has no domain", sandboxID)
	}
	return m.Disks[0].Path
}

func (w *world) there(path string) bool {
	_, there := w.disks.File(path)
	return there
}

// written tells whether a guest has written to the disk.
func (w *world) written(path string) bool {
	f, _ := w.disks.File(path)
	return f.Written
}

func (w *world) removeSandbox(id string) {
	w.t.Helper()
	if err := w.svc.RemoveSandbox(w.t.Context(), id); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) stopContainer(id string) {
	w.t.Helper()
	if err := w.svc.StopContainer(w.t.Context(), id, 0); err != nil {
		w.t.Fatal(err)
	}
}

// disk is the one persistent disk that there is.
func (w *world) disk() vm.HeldDisk {
	w.t.Helper()
	all, err := w.svc.Disks(w.t.Context())
	if err != nil || len(all) != 1 {
		w.t.Fatalf("%d persistent disks, %v; want one", len(all), err)
	}
	return all[0]
}

// removeDisk removes the one persistent disk, and then nothing may be left.
func (w *world) removeDisk() {
	w.t.Helper()
	if err := w.svc.RemoveDisk(w.t.Context(), w.disk().Key.Name()); err != nil {
		w.t.Fatal(err)
	}
	w.nothingLeft()
}

func TestAFreshDiskIsOfOneContainer(t *testing.T) {
	w := newWorld(t)
	sb := w.podWith("a", 0, fresh)
	first := w.created(sb, 0)
	disk := w.rootOf(sb)
	if !w.there(disk) {
		t.Fatalf("%s was not made", disk)
	}
	w.disks.Write(disk)
	if err := w.svc.StartContainer(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	w.stopContainer(first)
	second := w.created(sb, 1)
	next := w.rootOf(sb)
	if next == disk || w.written(next) || !w.there(next) {
		t.Errorf("the second attempt boots from %s after %s", next, disk)
	}
	if w.there(disk) {
		t.Error("the disk of the first attempt is still there")
	}
	for _, c := range []string{first, second} {
		if err := w.svc.RemoveContainer(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	if w.there(next) {
		t.Error("a removed container has left its disk")
	}
	w.removeSandbox(sb)
	w.nothingLeft()
}

func TestManyFreshBootsLeaveOneDisk(t *testing.T) {
	w := newWorld(t)
	sb := w.podWith("a", 0, fresh)
	for attempt := range uint32(30) {
		c := w.created(sb, attempt)
		if err := w.svc.StartContainer(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		w.stopContainer(c)
	}
	got, err := w.svc.Sandbox(sb)
	if err != nil || len(got.Status.Disks) != 1 {
		t.Errorf("%d disks on record (%v), want that of the last attempt", len(got.Status.Disks), err)
	}
	roots := slices.DeleteFunc(w.disks.Files(), func(path string) bool { return !strings.HasSuffix(path, ".qcow2") })
	if len(roots) != 1 {
		t.Errorf("root disks: %v", roots)
	}
}

func TestAFreshDiskOfACreationThatWasCutShortGoesWithIt(t *testing.T) {
	w := newWorld(t)
	sb := w.podWith("a", 0, fresh)
	c := w.created(sb, 0)
	disk := w.rootOf(sb)
	w.edit(func(st *store.Store) error {
		_, err := st.Containers().Update(c, "test", func(c vm.Container) (vm.Container, error) {
			c.Status.State = vm.ContainerCreating
			return c, nil
		})
		return err
	})
	if w.there(disk) {
		t.Error("its disk is still there")
	}
	if got, err := w.svc.Sandbox(sb); err != nil || len(got.Status.Disks) != 0 {
		t.Errorf("the sandbox has %v, %v", got.Status.Disks, err)
	}
}

func TestADiskOfTheSandboxIsKeptOverAttempts(t *testing.T) {
	for name, asks := range map[string]map[string]string{"by default": nil, "when asked": {annotations.RootDisk: "sandbox"}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			sb := w.podWith("a", 0, asks)
			first := w.created(sb, 0)
			disk := w.rootOf(sb)
			if err := w.svc.StartContainer(t.Context(), first); err != nil {
				t.Fatal(err)
			}
			w.stopContainer(first)
			if err := w.svc.RemoveContainer(t.Context(), first); err != nil {
				t.Fatal(err)
			}
			w.created(sb, 1)
			if got := w.rootOf(sb); got != disk || !w.there(disk) {
				t.Errorf("the second attempt boots from %s, the first did from %s", got, disk)
			}
			w.removeSandbox(sb)
			w.nothingLeft()
		})
	}
}

func TestAPersistentDiskOutlivesItsSandbox(t *testing.T) {
	for name, asks := range map[string]map[string]string{"of the pod": persistent, "of a claim": claimed} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			sb := w.podWith("a", 0, asks)
			w.created(sb, 0)
			disk := w.rootOf(sb)
			w.disks.Write(disk)
			if held, err := w.svc.Sandbox(sb); err != nil || len(w.svc.SandboxDisks(held)) != 1 || w.svc.SandboxDisks(held)[0].Path != disk {
				t.Errorf("the sandbox does not tell of %s: %v, %v", disk, w.svc.SandboxDisks(held), err)
			}
			w.removeSandbox(sb)
			w.restart()
			if got := w.disk(); got.Holder != nil || got.Disk.Path != disk || got.Used == 0 {
				t.Errorf("with no sandbox there is %+v", got)
			}
			next := w.podWith("a", 1, asks)
			w.created(next, 0)
			if got := w.rootOf(next); got != disk || !w.written(disk) {
				t.Errorf("the next sandbox boots from %s, the first did from %s", got, disk)
			}
			if got := w.disk().Holder; got == nil || got.ID != next {
				t.Errorf("the holder is %v", got)
			}
			w.removeSandbox(next)
			w.removeDisk()
		})
	}
}

func TestPersistentDisksAreOfAPodAndAContainer(t *testing.T) {
	w := newWorld(t)
	a, b := w.podWith("a", 0, persistent), w.podWith("b", 0, persistent)
	boot := w.created(a, 0)
	w.created(b, 0)
	if err := w.svc.RemoveContainer(t.Context(), boot); err != nil {
		t.Fatal(err)
	}
	spec := containerSpec(0)
	spec.Name = "init"
	if _, err := w.svc.CreateContainer(t.Context(), a, spec); err != nil {
		t.Fatal(err)
	}
	all, err := w.svc.Disks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range all {
		names = append(names, d.Key.Name())
	}
	if want := []string{"pod/default/uid-a/vm", "pod/default/uid-b/vm", "pod/default/uid-a/init"}; !slices.Equal(names, want) {
		t.Errorf("disks %v, want %v", names, want)
	}
}

func TestAPersistentDiskIsFoundAfterAReboot(t *testing.T) {
	w := newWorld(t)
	sb := w.podWith("a", 0, persistent)
	c := w.created(sb, 0)
	if err := w.svc.StartContainer(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	disk := w.rootOf(sb)
	w.disks.Write(disk)
	w.die()
	w.hypervisor.Kill(sb)
	w.network.LoseNetNS(sb)
	w.start()
	// The old sandbox is still on record, as kubelet leaves it.
	next := w.podWith("a", 1, persistent)
	w.created(next, 0)
	if got := w.rootOf(next); got != disk || !w.written(disk) {
		t.Errorf("the next sandbox boots from %s, the first did from %s", got, disk)
	}
	w.removeSandbox(sb)
	if !w.there(disk) || w.disk().Holder == nil {
		t.Error("the old sandbox took the disk with it")
	}
}

func TestADiskIsHeldByAVMThatRunsOnWithoutItsNetwork(t *testing.T) {
	w := newWorld(t)
	sb := w.podWith("a", 0, persistent)
	if err := w.svc.StartContainer(t.Context(), w.created(sb, 0)); err != nil {
		t.Fatal(err)
	}
	w.die()
	w.network.LoseNetNS(sb)
	w.start()
	next := w.podWith("a", 1, persistent)
	_, err := w.svc.CreateContainer(t.Context(), next, containerSpec(0))
	mustBe(t, err, errdefs.ErrFailedPrecondition)
	mustBe(t, w.svc.RemoveDisk(t.Context(), w.disk().Key.Name()), errdefs.ErrFailedPrecondition)
	if err := w.svc.StopSandbox(t.Context(), sb); err != nil {
		t.Fatal(err)
	}
	w.created(next, 0)
}

func TestAClaimIsForOneSandboxAtATime(t *testing.T) {
	w := newWorld(t)
	a, b := w.podWith("a", 0, claimed), w.podWith("b", 0, claimed)
	w.created(a, 0)
	disk := w.rootOf(a)
	_, err := w.svc.CreateContainer(t.Context(), b, containerSpec(0))
	mustBe(t, err, errdefs.ErrFailedPrecondition)
	for _, word := range []string{"claim/default/data/vm", a, "default/a"} {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%v does not name %s", err, word)
		}
	}
	if got := w.store.Containers().List(); len(got) != 1 {
		t.Errorf("%d containers on record after the refusal, want one", len(got))
	}
	// A stopped sandbox runs nothing any more; kubelet keeps it for a while.
	if err := w.svc.StopSandbox(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	w.created(b, 0)
	if got := w.rootOf(b); got != disk {
		t.Errorf("b boots from %s, a did from %s", got, disk)
	}
	w.removeSandbox(a)
	if !w.there(disk) {
		t.Error("a took the disk with it")
	}
	w.removeSandbox(b)
	w.removeDisk()
}

func TestOfManyWhoTakeAClaimAtOnceOneHasIt(t *testing.T) {
	w := newWorld(t)
	var wins atomic.Int32
	var all sync.WaitGroup
	for _, name := range []string{"a", "b", "c", "d"} {
		sb := w.podWith(name, 0, claimed)
		all.Go(func() {
			_, err := w.svc.CreateContainer(t.Context(), sb, containerSpec(0))
			if err == nil {
				wins.Add(1)
				return
			}
			mustBe(t, err, errdefs.ErrFailedPrecondition)
		})
	}
	all.Wait()
	if wins.Load() != 1 || w.disk().Holder == nil {
		t.Errorf("%d sandboxes have the disk", wins.Load())
	}
}

func TestAPersistentDiskIsOfOneImage(t *testing.T) {
	w := newWorld(t)
	other := "registry.test/other:1"
	w.images.Publish(other, "another disk")
	w.images.Add(other)
	sb := w.podWith("a", 0, persistent)
	first := w.created(sb, 0)
	if err := w.svc.RemoveContainer(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	spec := containerSpec(1)
	spec.ImageRef = other
	_, err := w.svc.CreateContainer(t.Context(), sb, spec)
	mustBe(t, err, errdefs.ErrFailedPrecondition)
	name := w.disk().Key.Name()
	if err == nil || !strings.Contains(err.Error(), "vmletctl disk rm "+name) {
		t.Errorf("%v does not say what to do", err)
	}
	if err := w.svc.StopSandbox(t.Context(), sb); err != nil {
		t.Fatal(err)
	}
	if err := w.svc.RemoveDisk(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	next := w.podWith("a", 1, persistent)
	if _, err := w.svc.CreateContainer(t.Context(), next, spec); err != nil {
		t.Fatal(err)
	}
}

func TestAPersistentDiskKeepsItsImage(t *testing.T) {
	w := newWorld(t)
	pinned := func() bool {
		t.Helper()
		one, err := w.svc.Image(t.Context(), testImage)
		if err != nil {
			t.Fatal(err)
		}
		all, err := w.svc.Images(t.Context())
		if err != nil || len(all) != 1 || all[0].Pinned != one.Pinned {
			t.Errorf("the list has %+v, %v; the image is %+v", all, err, one)
		}
		return one.Pinned
	}
	if pinned() {
		t.Error("pinned by nothing")
	}
	sb := w.podWith("a", 0, persistent)
	w.created(sb, 0)
	w.removeSandbox(sb)
	if !pinned() {
		t.Error("not pinned")
	}
	err := w.svc.RemoveImage(t.Context(), testImage)
	mustBe(t, err, errdefs.ErrFailedPrecondition)
	if err == nil || !strings.Contains(err.Error(), w.disk().Key.Name()) {
		t.Errorf("%v does not name the disk", err)
	}
	w.removeDisk()
	if pinned() {
		t.Error("still pinned")
	}
	if err := w.svc.RemoveImage(t.Context(), testImage); err != nil {
		t.Error(err)
	}
}

func TestAPersistentDiskGrowsAndNeverShrinks(t *testing.T) {
	w := newWorld(t)
	for attempt, tc := range []struct {
		asks string
		want int64
	}{{"4Gi", 4 * vm.GiB}, {"8Gi", 8 * vm.GiB}, {"1Gi", 8 * vm.GiB}} {
		asks := map[string]string{annotations.RootDisk: "persistent", annotations.RootSize: tc.asks}
		sb := w.podWith("a", uint32(attempt), asks)
		w.created(sb, 0)
		f, _ := w.disks.File(w.rootOf(sb))
		if got := w.disk().Disk.Size; got != tc.want || f.Disk == nil || f.Disk.Size != tc.want {
			t.Errorf("%s: %d bytes on record, file %+v; want %d", tc.asks, got, f.Disk, tc.want)
		}
		w.removeSandbox(sb)
	}
}

func TestAGrowthThatFailedIsTriedAgain(t *testing.T) {
	w := newWorld(t)
	sb := w.podWith("a", 0, persistent)
	w.created(sb, 0)
	disk := w.rootOf(sb)
	w.removeSandbox(sb)
	w.disks.FailNext("GrowRoot", errors.New("no room"))
	bigger := w.podWith("a", 1, map[string]string{annotations.RootDisk: "persistent", annotations.RootSize: "8Gi"})
	if _, err := w.svc.CreateContainer(t.Context(), bigger, containerSpec(0)); err == nil {
		t.Fatal("no error")
	}
	if !w.there(disk) || w.disk().Holder != nil {
		t.Error("the disk is gone, or was not given back")
	}
	w.created(bigger, 0)
	if f, _ := w.disks.File(disk); f.Disk == nil || f.Disk.Size != 8*vm.GiB {
		t.Errorf("the file is %+v", f.Disk)
	}
}

func TestRemovalOfADiskIsRefusedWhileItIsHeld(t *testing.T) {
	w := newWorld(t)
	sb := w.podWith("a", 0, persistent)
	w.created(sb, 0)
	name := w.disk().Key.Name()
	err := w.svc.RemoveDisk(t.Context(), name)
	mustBe(t, err, errdefs.ErrFailedPrecondition)
	if err == nil || !strings.Contains(err.Error(), sb) || !strings.Contains(err.Error(), "default/a") {
		t.Errorf("%v does not name the holder", err)
	}
	if !w.there(w.rootOf(sb)) {
		t.Error("the disk is gone")
	}
	mustBe(t, w.svc.RemoveDisk(t.Context(), "pod/default/uid-b/vm"), errdefs.ErrNotFound)
	w.removeSandbox(sb)
	w.removeDisk()
	mustBe(t, w.svc.RemoveDisk(t.Context(), name), errdefs.ErrNotFound)
}

func TestARemovalThatWasCutShortIsFinished(t *testing.T) {
	w := newWorld(t)
	a, b := w.podWith("a", 0, persistent), w.podWith("b", 0, persistent)
	w.created(a, 0)
	w.created(b, 0)
	gone, kept := w.rootOf(a), w.rootOf(b)
	w.removeSandbox(a)
	w.removeSandbox(b)
	w.disks.FailNext("RemoveDisk", errors.New("broken"))
	if err := w.svc.RemoveDisk(t.Context(), "pod/default/uid-a/vm"); err == nil {
		t.Fatal("no error")
	}
	again := w.podWith("a", 1, persistent)
	_, err := w.svc.CreateContainer(t.Context(), again, containerSpec(0))
	mustBe(t, err, errdefs.ErrFailedPrecondition)
	w.restart()
	if w.there(gone) || !w.there(kept) || w.disk().Key.PodUID != "uid-b" {
		t.Errorf("files %v", w.disks.Files())
	}
	w.created(again, 0)
}

func TestAPersistentDiskThatWasNeverBootedGoesWithItsCreation(t *testing.T) {
	w := newWorld(t)
	sb := w.podWith("a", 0, persistent)
	w.hypervisor.FailNext("Define", errors.New("broken"))
	if _, err := w.svc.CreateContainer(t.Context(), sb, containerSpec(0)); err == nil {
		t.Fatal("no error")
	}
	w.removeSandbox(sb)
	w.nothingLeft()
}

func TestAPersistentDiskIsGivenBackByACreationThatFails(t *testing.T) {
	w := newWorld(t)
	a := w.podWith("a", 0, claimed)
	w.created(a, 0)
	disk := w.rootOf(a)
	w.removeSandbox(a)
	b, c := w.podWith("b", 0, claimed), w.podWith("c", 0, claimed)
	w.hypervisor.FailNext("Define", errors.New("broken"))
	if _, err := w.svc.CreateContainer(t.Context(), b, containerSpec(0)); err == nil {
		t.Fatal("no error")
	}
	w.created(c, 0)
	if got := w.rootOf(c); got != disk || !w.there(disk) {
		t.Errorf("c boots from %s, want %s", got, disk)
	}
}

func TestAPersistentDiskThatIsLostIsNotMadeAgain(t *testing.T) {
	w := newWorld(t)
	sb := w.podWith("a", 0, persistent)
	w.created(sb, 0)
	disk := w.rootOf(sb)
	w.removeSandbox(sb)
	if err := w.disks.RemoveFile(t.Context(), disk); err != nil {
		t.Fatal(err)
	}
	next := w.podWith("a", 1, persistent)
	_, err := w.svc.CreateContainer(t.Context(), next, containerSpec(0))
	mustBe(t, err, errdefs.ErrFailedPrecondition)
	if errors.Is(err, errdefs.ErrNotFound) || w.there(disk) {
		t.Errorf("%v, and the file is there: %v", err, w.there(disk))
	}
	w.removeSandbox(next)
	w.removeDisk()
}

// TestAPersistentDiskOfACreationThatWasCutShortIsMade: the record was written, the file not.
func TestAPersistentDiskOfACreationThatWasCutShortIsMade(t *testing.T) {
	w := newWorld(t)
	sb := w.podWith("a", 0, persistent)
	c := w.created(sb, 0)
	disk := w.rootOf(sb)
	if err := w.disks.RemoveFile(t.Context(), disk); err != nil {
		t.Fatal(err)
	}
	w.edit(func(st *store.Store) error {
		_, err := st.Disks().Update(w.disk().Key.Name(), "test", func(d vm.PersistentDisk) (vm.PersistentDisk, error) {
			d.Status.Made = false
			return d, nil
		})
		_, containerErr := st.Containers().Update(c, "test", func(c vm.Container) (vm.Container, error) {
			c.Status.State = vm.ContainerCreating
			return c, nil
		})
		return errors.Join(err, containerErr)
	})
	w.created(sb, 1)
	if got := w.rootOf(sb); got != disk || !w.there(disk) {
		t.Errorf("it boots from %s, and %s is there: %v", got, disk, w.there(disk))
	}
	if got := w.disk(); got.Holder == nil || !got.Status.Made {
		t.Errorf("%+v", got)
	}
}

// lateRemoval holds up the first removal of a disk's files until it is let go.
type lateRemoval struct {
	lifecycle.Disks

	others         atomic.Bool
	entered, letGo chan struct{}
}

func (d *lateRemoval) RemoveDisk(ctx context.Context, id string) error {
	if !d.others.Swap(true) {
		close(d.entered)
		<-d.letGo
	}
	return d.Disks.RemoveDisk(ctx, id)
}

func TestALateRemovalLeavesTheNextDiskOfThatNameAlone(t *testing.T) {
	w := newWorld(t)
	late := &lateRemoval{Disks: w.disks, entered: make(chan struct{}), letGo: make(chan struct{})}
	w.adjust = func(d *lifecycle.Deps) { d.Disks = late }
	w.restart()
	a, b := w.podWith("a", 0, claimed), w.podWith("b", 0, claimed)
	w.hypervisor.FailNext("Define", errors.New("broken"))
	undone := make(chan error)
	go func() {
		_, err := w.svc.CreateContainer(t.Context(), a, containerSpec(0))
		undone <- err
	}()
	<-late.entered
	if err := w.svc.RemoveDisk(t.Context(), "claim/default/data/vm"); err != nil {
		t.Fatal(err)
	}
	w.created(b, 0)
	close(late.letGo)
	if err := <-undone; err == nil {
		t.Error("no error")
	}
	if got := w.disk().Holder; got == nil || got.ID != b || !w.there(w.rootOf(b)) {
		t.Errorf("the holder is %v, files %v", got, w.disks.Files())
	}
}

// edit changes records while no daemon runs.
func (w *world) edit(change func(*store.Store) error) {
	w.t.Helper()
	if err := change(w.store); err != nil {
		w.t.Fatal(err)
	}
	w.restart()
}

func TestTheStatisticsCountAHeldDisk(t *testing.T) {
	w := newWorld(t)
	sb := w.podWith("a", 0, persistent)
	c := w.created(sb, 0)
	if err := w.svc.StartContainer(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if st := w.sampled(ctx, c); st.DiskUsed != uint64(vm.MiB) || st.DiskInodes != 1 {
		t.Errorf("%+v; want the persistent disk's MiB", st)
	}
}
