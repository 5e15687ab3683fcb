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

var bySize = vm.DataDiskSpec{Size: 64 * vm.MiB}

func byPath(path string) vm.DataDiskSpec { return vm.DataDiskSpec{Path: path, Format: vm.FormatRaw} }

func (w *world) attach(ref, name string, spec vm.DataDiskSpec) vm.DataDisk {
	w.t.Helper()
	d, err := w.svc.AttachDisk(w.t.Context(), ref, name, spec)
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

func (w *world) detach(ref, name string, req vm.DetachRequest) {
	w.t.Helper()
	if err := w.svc.DetachDisk(w.t.Context(), ref, name, req); err != nil {
		w.t.Fatal(err)
	}
}

// source puts a caller's file there: the same one at every path.
func (w *world) source(path string) {
	w.disks.AddSource(path, vm.DiskSource{Identity: "file 1:2", Size: vm.MiB})
}

// dataDisk is what is on record of a disk, its state "" for none.
func (w *world) dataDisk(sandboxID, name string) vm.DataDisk {
	w.t.Helper()
	sb, err := w.store.Sandboxes().Get(sandboxID)
	if err != nil {
		w.t.Fatal(err)
	}
	i := slices.IndexFunc(sb.Status.DataDisks, func(d vm.DataDisk) bool { return d.Name == name })
	if i < 0 {
		return vm.DataDisk{}
	}
	return sb.Status.DataDisks[i]
}

// defined are the targets in the domain's definition, live those of the machine that runs.
func (w *world) defined(sandboxID string) (targets []string) {
	w.t.Helper()
	m, ok := w.hypervisor.Machine(sandboxID)
	if !ok {
		w.t.Fatal("there is no domain")
	}
	for _, d := range m.Disks {
		if d.Target != "" {
			targets = append(targets, d.Target)
		}
	}
	return targets
}

func (w *world) live(sandboxID string) (targets []string) {
	w.t.Helper()
	disks, err := w.hypervisor.LiveDisks(w.t.Context(), sandboxID)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, d := range disks[2:] {
		targets = append(targets, d.Target)
	}
	return targets
}

// wantDisks checks the records, the definition and the running machine at once.
func (w *world) wantDisks(sandboxID string, targets ...string) {
	w.t.Helper()
	var recorded []string
	sb, err := w.store.Sandboxes().Get(sandboxID)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, d := range sb.Status.DataDisks {
		if d.State == vm.DataDiskAttached {
			recorded = append(recorded, d.Target)
		}
	}
	for what, have := range map[string][]string{"on record": recorded, "defined": w.defined(sandboxID), "in the machine": w.live(sandboxID)} {
		if !slices.Equal(have, targets) {
			w.t.Errorf("%s: %q, want %q", what, have, targets)
		}
	}
}

func TestADiskIsAttachedAndDetached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.running("a")
		w.source("/srv/x")
		d := w.attach("default/a", "data", bySize)
		if d.Serial != "data" || d.Target != "vdc" || d.Size != bySize.Size || d.State != vm.DataDiskAttached {
			t.Errorf("got %+v", d)
		}
		if again := w.attach(sb, "data", bySize); again != d {
			t.Errorf("again: %+v", again)
		}
		w.attach(sb, "x", byPath("/srv/x"))
		w.wantDisks(sb, "vdc", "vdd")
		m, _ := w.hypervisor.Machine(sb)
		if own, foreign := m.Disks[2], m.Disks[3]; own.Foreign || !foreign.Foreign || foreign.Path != "/srv/x" || own.Path != d.Path {
			t.Errorf("own %+v, foreign %+v", own, foreign)
		}

		w.detach(sb, "x", vm.DetachRequest{Delete: true})
		w.detach(sb, "data", vm.DetachRequest{})
		w.wantDisks(sb)
		if got := w.dataDisk(sb, "data"); got.State != vm.DataDiskDetached || !w.there(d.Path) {
			t.Errorf("the disk by size is %+v, its file there: %v", got, w.there(d.Path))
		}
		if got := w.dataDisk(sb, "x"); got.State != "" {
			t.Errorf("the caller's is still on record: %+v", got)
		}
		w.disks.Write(d.Path)
		if back := w.attach(sb, "data", bySize); back.Path != d.Path || !w.written(d.Path) {
			t.Errorf("came back as %+v", back)
		}
		w.detach(sb, "data", vm.DetachRequest{Delete: true})
		if w.there(d.Path) || w.dataDisk(sb, "data").State != "" {
			t.Error("it was not deleted")
		}
		if err := w.svc.DetachDisk(t.Context(), sb, "data", vm.DetachRequest{}); !errdefs.IsNotFound(err) {
			t.Errorf("an unknown one: %v", err)
		}
		for _, path := range w.disks.Files() {
			if path == "/srv/x" {
				t.Error("the caller's file was made or removed")
			}
		}
	})
}

func TestADiskIsInLaterMachines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb := w.sandbox("a")
		w.attach(sb, "early", bySize) // there is no domain yet
		c := w.created(sb, 0)
		w.attach(sb, "between", bySize)
		if err := w.svc.StartContainer(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		w.attach(sb, "late", bySize)
		w.wantDisks(sb, "vdc", "vdd", "vde")
		w.hypervisor.PowerOff(sb)
		synctest.Wait()
		w.detach(sb, "between", vm.DetachRequest{}) // nobody has to let go
		next := w.created(sb, 1)
		if err := w.svc.StartContainer(t.Context(), next); err != nil {
			t.Fatal(err)
		}
		w.wantDisks(sb, "vdc", "vde")
		w.restart()
		w.wantDisks(sb, "vdc", "vde")
	})
}

func TestWhatIsNoDiskIsRefused(t *testing.T) {
	w := newWorld(t)
	sb, _ := w.running("a")
	w.attach(sb, "data", bySize)
	w.source("/srv/x")
	for name, tc := range map[string]struct {
		disk  string
		spec  vm.DataDiskSpec
		class func(error) bool
		says  string
	}{
		"no name":               {"", bySize, errdefs.IsInvalidArgument, "name"},
		"a name with a slash":   {"a/b", bySize, errdefs.IsInvalidArgument, "name"},
		"the root disk's name":  {"root", bySize, errdefs.IsInvalidArgument, "which every VM has"},
		"size and path":         {"x", vm.DataDiskSpec{Size: 1, Path: "/srv/x"}, errdefs.IsInvalidArgument, "either a size or a path"},
		"neither":               {"x", vm.DataDiskSpec{}, errdefs.IsInvalidArgument, "either a size or a path"},
		"a negative size":       {"x", vm.DataDiskSpec{Size: -1}, errdefs.IsInvalidArgument, "from 1 to"},
		"no format":             {"x", vm.DataDiskSpec{Path: "/srv/x"}, errdefs.IsInvalidArgument, "guessing"},
		"a relative path":       {"x", byPath("srv/x"), errdefs.IsInvalidArgument, "absolute"},
		"a path that climbs":    {"x", byPath("/srv/../etc/x"), errdefs.IsInvalidArgument, "clean"},
		"another bus":           {"x", vm.DataDiskSpec{Size: 1, Bus: "ide"}, errdefs.IsInvalidArgument, "neither virtio nor scsi"},
		"a long serial":         {"x", vm.DataDiskSpec{Size: 1, Serial: strings.Repeat("s", 21)}, errdefs.IsInvalidArgument, "1 to 20"},
		"the root's serial":     {"x", vm.DataDiskSpec{Size: 1, Serial: "root"}, errdefs.IsInvalidArgument, "which every VM has"},
		"a serial that is used": {"x", vm.DataDiskSpec{Size: 1, Serial: "data"}, errdefs.IsAlreadyExists, "another disk"},
		"an empty read-only":    {"x", vm.DataDiskSpec{Size: 1, ReadOnly: true}, errdefs.IsInvalidArgument, "stay empty"},
		"another size":          {"data", vm.DataDiskSpec{Size: 512}, errdefs.IsAlreadyExists, "size is 67108864 bytes, not 512"},
		"another bus than had":  {"data", vm.DataDiskSpec{Size: bySize.Size, Bus: "scsi"}, errdefs.IsAlreadyExists, `bus is "virtio", not "scsi"`},
		"a path that is not":    {"x", byPath("/srv/none"), errdefs.IsNotFound, "/srv/none"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.svc.AttachDisk(t.Context(), sb, tc.disk, tc.spec)
			if err == nil || !tc.class(err) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v", err)
			}
		})
	}
	w.wantDisks(sb, "vdc")
	for _, disk := range []string{"root", "seed"} {
		if err := w.svc.DetachDisk(t.Context(), sb, disk, vm.DetachRequest{}); !errdefs.IsFailedPrecondition(err) {
			t.Errorf("detach %s: %v", disk, err)
		}
	}
}

func TestAFileIsWrittenByOneVM(t *testing.T) {
	w := newWorld(t)
	a, _ := w.running("a")
	b, _ := w.running("b")
	w.source("/srv/x")
	w.source("/srv/hardlink")
	w.attach(a, "x", byPath("/srv/x"))
	for _, path := range []string{"/srv/x", "/srv/hardlink"} {
		_, err := w.svc.AttachDisk(t.Context(), b, "mine", byPath(path))
		if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "default/a") {
			t.Errorf("%s: %v", path, err)
		}
	}
	if w.dataDisk(b, "mine").State != "" {
		t.Error("what was refused is on record")
	}
	w.detach(a, "x", vm.DetachRequest{})
	reads := byPath("/srv/x")
	reads.ReadOnly = true
	w.attach(a, "x", reads)
	w.attach(b, "mine", reads)
	if _, err := w.svc.AttachDisk(t.Context(), b, "writes", byPath("/srv/x")); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("a writer beside readers: %v", err)
	}
	if err := w.svc.StopSandbox(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	w.detach(b, "mine", vm.DetachRequest{})
	w.attach(b, "writes", byPath("/srv/x")) // who is stopped has nothing
}

func TestAGuestThatDoesNotLetGoKeepsItsDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.running("a")
		d := w.attach(sb, "data", bySize)
		w.hypervisor.HoldDisks(true)
		err := w.svc.DetachDisk(t.Context(), sb, "data", vm.DetachRequest{Delete: true, Wait: time.Minute})
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "did not let go") {
			t.Errorf("got %v", err)
		}
		w.wantDisks(sb, "vdc")
		if got := w.dataDisk(sb, "data"); got.Delete {
			t.Error("it is still to be deleted")
		}
		// The request stands in QEMU.
		w.hypervisor.HoldDisks(false)
		synctest.Wait()
		w.wantDisks(sb)
		if got := w.dataDisk(sb, "data"); got.State != vm.DataDiskDetached || !w.there(d.Path) {
			t.Errorf("let go of late: %+v, file there: %v", got, w.there(d.Path))
		}
	})
}

func TestADetachEndsWithTheVM(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.running("a")
		w.attach(sb, "data", bySize)
		w.hypervisor.HoldDisks(true)
		ended := make(chan error, 1)
		go func() { ended <- w.svc.DetachDisk(t.Context(), sb, "data", vm.DetachRequest{}) }()
		synctest.Wait()
		w.hypervisor.PowerOff(sb)
		synctest.Wait()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if got := w.dataDisk(sb, "data"); got.State != vm.DataDiskDetached || len(w.defined(sb)) > 0 {
			t.Errorf("it is %+v, defined are %q", got, w.defined(sb))
		}
	})
}

func TestADiskInUseIsNotDetached(t *testing.T) {
	w := newWorld(t)
	sb, _ := w.running("a")
	w.attach(sb, "data", bySize)
	w.guest.UseDisk(sb, "data", "/dev/vdc is mounted at /data")
	err := w.svc.DetachDisk(t.Context(), sb, "data", vm.DetachRequest{})
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "mounted at /data") {
		t.Errorf("got %v", err)
	}
	w.wantDisks(sb, "vdc")
	w.guest.UseDisk(sb, "data", "")
	if err := w.svc.Pause(t.Context(), sb); err != nil {
		t.Fatal(err)
	}
	if err := w.svc.DetachDisk(t.Context(), sb, "data", vm.DetachRequest{}); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "paused") {
		t.Errorf("of a paused VM: %v", err)
	}
	w.attach(sb, "more", bySize)
	w.wantDisks(sb, "vdc", "vdd")
}

func TestAFailedAttachLeavesNothing(t *testing.T) {
	w := newWorld(t)
	sb, _ := w.running("a")
	files := w.disks.Files()
	broken := errors.New("broken")
	for _, step := range []func(){
		func() { w.disks.FailNext("CreateData", broken) },
		func() { w.hypervisor.FailNext("AttachDisk", broken) },
		func() { w.hypervisor.LimitPorts(2) },
	} {
		step()
		_, err := w.svc.AttachDisk(t.Context(), sb, "data", bySize)
		if !errors.Is(err, broken) && !errdefs.IsResourceExhausted(err) {
			t.Errorf("got %v", err)
		}
		w.wantDisks(sb)
		if got := w.dataDisk(sb, "data"); got.State != "" || !slices.Equal(w.disks.Files(), files) {
			t.Errorf("left: %+v, files %q", got, w.disks.Files())
		}
	}
	w.hypervisor.LimitPorts(0)
	w.attach(sb, "data", bySize)
	w.detach(sb, "data", vm.DetachRequest{})
	w.hypervisor.FailNext("AttachDisk", broken)
	if _, err := w.svc.AttachDisk(t.Context(), sb, "data", bySize); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if got := w.dataDisk(sb, "data"); got.State != vm.DataDiskDetached || !w.there(got.Path) {
		t.Errorf("a kept disk became %+v", got)
	}
}

// TestDisksAfterACrash: what is on record of a call that was cut short, and what the machine has, agree after a restart.
func TestDisksAfterACrash(t *testing.T) {
	for name, tc := range map[string]struct {
		crash  func(w *world, sb string, d *vm.DataDisk)
		state  vm.DataDiskState
		live   bool
		thrown bool // the file
	}{
		"an attach that has done nothing yet": {func(w *world, sb string, d *vm.DataDisk) {
			d.State = vm.DataDiskAttaching
			w.lose(sb, d.Target)
			noError(w.t, w.disks.RemoveFile(w.t.Context(), d.Path))
		}, vm.DataDiskAttached, true, false},
		"an attach that the machine has":      {func(_ *world, _ string, d *vm.DataDisk) { d.State = vm.DataDiskAttaching }, vm.DataDiskAttached, true, false},
		"a detach that was not asked for yet": {func(_ *world, _ string, d *vm.DataDisk) { d.State, d.Delete = vm.DataDiskDetaching, true }, vm.DataDiskAttached, true, false},
		"a detach that the guest has heard": {func(w *world, sb string, d *vm.DataDisk) {
			d.State = vm.DataDiskDetaching
			w.lose(sb, d.Target)
		}, vm.DataDiskDetached, false, false},
		"a detach with the file": {func(w *world, sb string, d *vm.DataDisk) {
			d.State, d.Delete = vm.DataDiskDetaching, true
			w.lose(sb, d.Target)
		}, "", false, true},
		"a guest that has let go of it late": {func(w *world, sb string, d *vm.DataDisk) { w.lose(sb, d.Target) }, vm.DataDiskDetached, false, false},
		"a resize that is on record":         {func(_ *world, _ string, d *vm.DataDisk) { d.Size *= 2 }, vm.DataDiskAttached, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				sb, _ := w.running("a")
				d := w.attach(sb, "data", bySize)
				tc.crash(w, sb, &d)
				if _, err := w.store.Sandboxes().Update(sb, "crash", func(s vm.Sandbox) (vm.Sandbox, error) {
					s.Status.DataDisks = []vm.DataDisk{d}
					return s, nil
				}); err != nil {
					t.Fatal(err)
				}
				w.restart()
				synctest.Wait()
				got := w.dataDisk(sb, "data")
				if got.State != tc.state || got.Delete || w.there(d.Path) == tc.thrown {
					t.Errorf("it is %+v, its file there: %v", got, w.there(d.Path))
				}
				if is := len(w.live(sb)) == 1; is != tc.live {
					t.Errorf("in the machine: %v", is)
				}
				if is := len(w.defined(sb)) == 1; is != tc.live {
					t.Errorf("defined: %v", is)
				}
				if f, there := w.disks.File(d.Path); there && tc.live && f.Disk.Size != d.Size {
					t.Errorf("it has %d bytes, not %d", f.Disk.Size, d.Size)
				}
			})
		})
	}
}

// TestADetachThatFailedIsFinished, by itself and at the latest before the VM's next start: what its definition has of the disk
// is a file that a snapshot has had since.
func TestADetachThatFailedIsFinished(t *testing.T) {
	refused := errors.New("as the test wants it")
	for name, then := range map[string]func(w *world, c string){
		"by itself": func(*world, string) { time.Sleep(time.Hour) },
		"before a start": func(w *world, c string) {
			synctest.Wait() // what goes on by itself has failed
			noError(w.t, w.svc.StartContainer(w.t.Context(), c))
			if live := w.live(w.container(c).SandboxID); len(live) > 0 {
				w.t.Errorf("it started with %q", live)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				sb := w.sandbox("a")
				c := w.created(sb, 0)
				d := w.attach(sb, "data", bySize)
				if _, err := w.take(sb, "s", false); err != nil {
					t.Fatal(err)
				}
				for range 2 {
					w.hypervisor.FailNext("ForgetDisk", refused)
				}
				if err := w.svc.DetachDisk(t.Context(), sb, "data", vm.DetachRequest{}); !errors.Is(err, refused) {
					t.Fatal(err)
				}
				then(w, c)
				if got := w.dataDisk(sb, "data"); got.State != vm.DataDiskDetached || got.Path == d.Path {
					t.Errorf("it is %+v", got)
				}
				if defined := w.defined(sb); len(defined) > 0 {
					t.Errorf("defined: %q", defined)
				}
			})
		})
	}
}

// TestADetachEndsBeforeARestore: the machine that a restore makes does not have a disk that its guest was to let go of.
func TestADetachEndsBeforeARestore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.running("a")
		for _, name := range []string{"without", "with"} {
			if _, err := w.take(sb, name, false); err != nil {
				t.Fatal(err)
			}
			w.attach(sb, "data", bySize)
		}
		w.hypervisor.HoldDisks(true)
		detached := make(chan error)
		go func() { detached <- w.svc.DetachDisk(t.Context(), sb, "data", vm.DetachRequest{Wait: time.Minute}) }()
		synctest.Wait()
		noError(t, w.svc.RestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: "without"}))
		noError(t, <-detached)
		w.wantDisks(sb)
	})
}

// lose takes a disk out of the machine that runs while nobody listens.
func (w *world) lose(sandboxID, target string) {
	w.t.Helper()
	w.die()
	noError(w.t, w.hypervisor.UnplugDisk(w.t.Context(), sandboxID, target))
	w.open(w.t.Context())
	w.die = w.close
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestDisksGoWithTheirSandbox(t *testing.T) {
	w := newWorld(t)
	sb, _ := w.running("a")
	w.source("/srv/x")
	own := w.attach(sb, "own", bySize)
	w.attach(sb, "x", byPath("/srv/x"))
	w.attach(sb, "kept", bySize)
	w.detach(sb, "kept", vm.DetachRequest{})
	noError(t, w.svc.RemoveSandbox(t.Context(), sb))
	if w.there(own.Path) || len(w.disks.Files()) > 0 {
		t.Errorf("left: %q", w.disks.Files())
	}
	for _, call := range w.disks.Calls() {
		if strings.HasPrefix(call, "RemoveFile /srv") {
			t.Errorf("the caller's file: %s", call)
		}
	}
}

func TestADiskWhoseFileIsGoneIsNamed(t *testing.T) {
	w := newWorld(t)
	sb := w.sandbox("a")
	w.source("/srv/x")
	w.attach(sb, "x", byPath("/srv/x"))
	w.disks.FailNext("Source", errdefs.ErrNotFound)
	_, err := w.svc.CreateContainer(t.Context(), sb, containerSpec(0))
	if !errdefs.IsFailedPrecondition(err) || errdefs.IsNotFound(err) || !strings.Contains(err.Error(), `data disk "x", which can be detached`) {
		t.Errorf("got %v", err)
	}
	w.created(sb, 0)
}

func TestResize(t *testing.T) {
	w := newWorld(t)
	sb, c := w.running("a")
	w.attach(sb, "data", bySize)
	w.guest.UseDisk(sb, "data", "/data")
	did, err := w.svc.ResizeDisk(t.Context(), sb, "data", 128*vm.MiB, true)
	noError(t, err)
	if did.Before != bySize.Size || did.Size != 128*vm.MiB || did.FileSystem != vm.GrowthGrown {
		t.Errorf("got %+v", did)
	}
	w.attach(sb, "data", bySize) // as it was asked for
	if _, err := w.svc.ResizeDisk(t.Context(), sb, "data", vm.MiB, false); !errdefs.IsInvalidArgument(err) ||
		!strings.Contains(err.Error(), "134217728") || !strings.Contains(err.Error(), "1048576") {
		t.Errorf("smaller: %v", err)
	}
	root := w.rootOf(sb)
	before, _ := w.disks.File(root)
	did, err = w.svc.ResizeDisk(t.Context(), sb, "root", 8*vm.GiB, true)
	noError(t, err)
	if did.Before != before.Disk.Size || did.FileSystem != vm.GrowthSkipped {
		t.Errorf("got %+v", did)
	}
	w.hypervisor.FailNext("ResizeDisk", errdefs.ErrUnavailable)
	if _, err := w.svc.ResizeDisk(t.Context(), sb, "root", 9*vm.GiB, false); !errdefs.IsUnavailable(err) {
		t.Errorf("got %v", err)
	}
	stored, err := w.store.Sandboxes().Get(sb)
	noError(t, err)
	if d := stored.Status.Disks[0]; d.Size != 8*vm.GiB || d.Growing {
		t.Errorf("on record: %+v", d)
	}
	noError(t, w.svc.StopContainer(t.Context(), c, 0))
	did, err = w.svc.ResizeDisk(t.Context(), sb, "data", 256*vm.MiB, true)
	noError(t, err)
	if f, _ := w.disks.File(w.dataDisk(sb, "data").Path); f.Disk.Size != 256*vm.MiB || did.FileSystem != vm.GrowthSkipped || did.Detail != "no guest runs" {
		t.Errorf("between boots: %+v, the file %+v", did, f.Disk)
	}
	if _, err := w.svc.ResizeDisk(t.Context(), sb, "seed", vm.GiB, false); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("the seed: %v", err)
	}
}

func TestAResizeOfTheRootDiskThatWasCutShort(t *testing.T) {
	w := newWorld(t)
	sb, _ := w.running("a")
	if _, err := w.store.Sandboxes().Update(sb, "crash", func(s vm.Sandbox) (vm.Sandbox, error) {
		s.Status.Disks = slices.Clone(s.Status.Disks)
		s.Status.Disks[0].Size, s.Status.Disks[0].Growing = 8*vm.GiB, true
		return s, nil
	}); err != nil {
		t.Fatal(err)
	}
	w.restart()
	f, _ := w.disks.File(w.rootOf(sb))
	stored, err := w.store.Sandboxes().Get(sb)
	noError(t, err)
	if d := stored.Status.Disks[0]; f.Disk.Size != 8*vm.GiB || d.Growing {
		t.Errorf("the file has %d bytes, on record: %+v", f.Disk.Size, d)
	}
}

func TestABlockDeviceThatHasGrown(t *testing.T) {
	w := newWorld(t)
	sb, _ := w.running("a")
	device := vm.DiskSource{Block: true, Identity: "block 7:0", Size: vm.MiB}
	w.disks.AddSource("/dev/loop0", device)
	w.attach(sb, "dev", byPath("/dev/loop0"))
	if m, _ := w.hypervisor.Machine(sb); !m.Disks[2].Block {
		t.Errorf("got %+v", m.Disks[2])
	}
	if _, err := w.svc.ResizeDisk(t.Context(), sb, "dev", 3*vm.MiB, false); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "grow the device first") {
		t.Errorf("got %v", err)
	}
	device.Size = 2 * vm.MiB
	w.disks.AddSource("/dev/loop0", device)
	did, err := w.svc.ResizeDisk(t.Context(), sb, "dev", 0, false)
	noError(t, err)
	if did.Size != 2*vm.MiB {
		t.Errorf("got %+v", did)
	}
}

func TestVMDisksAreListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.running("a")
		w.source("/srv/x")
		w.attach(sb, "data", bySize)
		w.attach(sb, "x", byPath("/srv/x"))
		w.detach(sb, "data", vm.DetachRequest{})
		synctest.Wait()
		calls := len(w.hypervisor.Calls())
		w.disks.FailNext("Source", errdefs.ErrNotFound)
		disks, err := w.svc.VMDisks(t.Context(), sb)
		noError(t, err)
		var names []string
		for _, d := range disks {
			names = append(names, d.Name+" "+string(d.State)+" "+d.Target+" "+d.Problem)
		}
		want := []string{"root Attached vda ", "seed Attached vdb ", "data Detached  ", "x Attached vdd its file is gone"}
		if !slices.Equal(names, want) {
			t.Errorf("got %q, want %q", names, want)
		}
		if root := disks[0]; len(root.Layers) != 2 || !root.Layers[1].Shared || root.Allocated == 0 {
			t.Errorf("the root disk: %+v", root)
		}
		if len(w.hypervisor.Calls()) != calls {
			t.Error("a read has called libvirt")
		}
	})
}
