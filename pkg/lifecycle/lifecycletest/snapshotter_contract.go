// SPDX-License-Identifier: Apache-2.0

//nolint:thelper // these are the tests themselves: a failure is where it is found
package lifecycletest

import (
	"slices"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/lifecycle"
	"github.com/vmlet/vmlet/pkg/vm"
)

// SnapshotterHost is what RunSnapshotter plays with: a hypervisor, and files that its machines can have as disks.
type SnapshotterHost struct {
	HypervisorHost

	// Image is a file that stays as it is under all others.
	Image vm.BackingFile
	// Overlay makes a qcow2 file of 1 MiB on another file, which a machine can write to, and be on, and returns its path.
	Overlay func(t *testing.T, below vm.BackingFile) string
	// Data makes an empty qcow2 file of 1 MiB, on which there can be others, and returns its path.
	Data func(t *testing.T) string
	// Memory is where memory can be saved; nothing is there.
	Memory string
	// NVRAM are two places where a firmware can keep what it does; nothing is there. Exists tells whether something is.
	NVRAM  [2]string
	Exists func(path string) bool
}

var _ lifecycle.Snapshotter = lifecycle.Hypervisor(nil)

// snapshotTrial is one case of the suite.
type snapshotTrial struct {
	*hypervisorTrial

	host SnapshotterHost
	root string
}

// RunSnapshotter checks what lifecycle.Snapshotter promises, on machines with an empty disk that never get beyond their firmware.
func RunSnapshotter(t *testing.T, newHost func(t *testing.T) SnapshotterHost) {
	t.Helper()
	for _, tc := range []struct {
		name string
		run  func(*snapshotTrial)
	}{
		{"no domain", noDomainToSnapshot},
		{"an inactive domain", anInactiveDomainToSnapshot},
		{"a disk", aDiskIsTaken},
		{"layers under a machine", layersUnderAMachine},
		{"memory", memoryIsTaken},
		{"two disks", twoDisksAreTaken},
		{"what UEFI keeps", whatUEFIKeeps},
	} {
		t.Run(tc.name, func(t *testing.T) {
			host := newHost(t)
			trial := &snapshotTrial{&hypervisorTrial{T: t, h: host.Hypervisor, id: randomID()}, host, host.Overlay(t, host.Image)}
			defer trial.cleanUp()
			tc.run(trial)
		})
	}
}

func layer(path string) vm.BackingFile { return vm.BackingFile{Path: path, Format: vm.FormatQCOW2} }

func (t *snapshotTrial) define() {
	t.Helper()
	m := t.machine()
	m.Disks = []vm.MachineDisk{{
		Path: t.root, Format: vm.FormatQCOW2, Bus: vm.BusVirtio, Boot: true, ErrorPolicy: "report", Backing: []vm.BackingFile{t.host.Image},
	}}
	t.must(t.h.Define(t.Context(), m))
}

func (t *snapshotTrial) begin() {
	t.Helper()
	t.define()
	t.must(t.h.Start(t.Context(), t.id))
}

// take takes a snapshot, and returns the file that the guest writes to from then on.
func (t *snapshotTrial) take(disk, memory string) (next string) {
	t.Helper()
	next = t.host.Overlay(t.T, layer(disk))
	t.must(t.h.Snapshot(t.Context(), t.id, vm.Snapshotting{Disks: []vm.Switch{{Disk: disk, Next: next}}, Memory: memory}))
	return next
}

// chain checks what the machine has open, above the image.
func (t *snapshotTrial) chain(want ...string) {
	t.Helper()
	t.chains(append(want, t.host.Image.Path))
}

// chains checks what the machine has open, disk by disk, the boot disk's first.
func (t *snapshotTrial) chains(want ...[]string) {
	t.Helper()
	have, err := t.h.Chains(t.Context(), t.id)
	t.must(err)
	if !slices.EqualFunc(have, want, slices.Equal) {
		t.Errorf("the machine has %q, want %q", have, want)
	}
}

func switched(disk, next string) vm.Snapshotting {
	return vm.Snapshotting{Disks: []vm.Switch{{Disk: disk, Next: next}}}
}

func bootFiles(path string, backing ...vm.BackingFile) []vm.DiskFiles {
	return []vm.DiskFiles{{Path: path, Backing: backing}}
}

func noDomainToSnapshot(t *snapshotTrial) {
	ctx := t.Context()
	_, err := t.h.Chains(ctx, t.id)
	t.refused("Chains", err, errdefs.ErrNotFound)
	_, err = t.h.Saving(ctx, t.id)
	t.refused("Saving", err, errdefs.ErrNotFound)
	t.refused("Snapshot", t.h.Snapshot(ctx, t.id, switched(t.root, t.root)), errdefs.ErrNotFound)
	t.refused("DefineDisks", t.h.DefineDisks(ctx, t.id, bootFiles(t.root)), errdefs.ErrNotFound)
	_, err = t.h.StartFromMemory(ctx, t.id, t.host.Memory, nil)
	t.refused("StartFromMemory", err, errdefs.ErrNotFound)
	t.refused("PullLayer", t.h.PullLayer(ctx, t.id, t.root, t.host.Image.Path), errdefs.ErrNotFound)
	t.refused("CommitLayer", t.h.CommitLayer(ctx, t.id, t.root, t.host.Image.Path), errdefs.ErrNotFound)
}

// anInactiveDomainToSnapshot has another disk from its next start on.
func anInactiveDomainToSnapshot(t *snapshotTrial) {
	ctx := t.Context()
	t.define()
	_, err := t.h.Chains(ctx, t.id)
	t.refused("Chains", err, errdefs.ErrFailedPrecondition)
	t.refused("Snapshot", t.h.Snapshot(ctx, t.id, switched(t.root, t.root)), errdefs.ErrFailedPrecondition)
	t.refused("PullLayer", t.h.PullLayer(ctx, t.id, t.root, t.host.Image.Path), errdefs.ErrFailedPrecondition)
	t.refused("CommitLayer", t.h.CommitLayer(ctx, t.id, t.root, t.host.Image.Path), errdefs.ErrFailedPrecondition)
	next := t.host.Overlay(t.T, layer(t.root))
	for range 2 {
		t.must(t.h.DefineDisks(ctx, t.id, bootFiles(next, layer(t.root), t.host.Image)))
	}
	t.must(t.h.Start(ctx, t.id))
	t.chain(next, t.root)
	t.refused("DefineDisks", t.h.DefineDisks(ctx, t.id, bootFiles(t.root, t.host.Image)), errdefs.ErrFailedPrecondition)
	t.chain(next, t.root)
}

// aDiskIsTaken of a machine that is halted, and of one that runs: either goes on as it was.
func aDiskIsTaken(t *snapshotTrial) {
	t.begin()
	t.chain(t.root)
	one := t.take(t.root, "")
	t.chain(one, t.root)
	t.state(vm.DomainPaused)
	t.refused("Snapshot", t.h.Snapshot(t.Context(), t.id, switched(t.root, t.host.Overlay(t.T, layer(t.root)))), errdefs.ErrFailedPrecondition)
	t.chain(one, t.root)
	t.must(t.h.Resume(t.Context(), t.id))
	two := t.take(one, "")
	t.chain(two, one, t.root)
	t.state(vm.DomainRunning)
	if saving, err := t.h.Saving(t.Context(), t.id); saving || err != nil {
		t.Errorf("it is still being taken: %v, %v", saving, err)
	}
	t.must(t.h.Destroy(t.Context(), t.id))
	t.state(vm.DomainShutoff)
}

// layersUnderAMachine are merged and pulled while it has them open.
func layersUnderAMachine(t *snapshotTrial) {
	ctx := t.Context()
	t.begin()
	t.must(t.h.Resume(ctx, t.id))
	one := t.take(t.root, "")
	two := t.take(one, "")
	top := t.take(two, "")
	t.refused("CommitLayer of the disk", t.h.CommitLayer(ctx, t.id, top, two), errdefs.ErrFailedPrecondition)
	t.refused("CommitLayer past a layer", t.h.CommitLayer(ctx, t.id, two, t.root), errdefs.ErrFailedPrecondition)
	t.refused("PullLayer", t.h.PullLayer(ctx, t.id, top, t.host.Memory), errdefs.ErrFailedPrecondition)
	t.refused("PullLayer into a layer", t.h.PullLayer(ctx, t.id, two, t.root), errdefs.ErrFailedPrecondition)
	t.chain(top, two, one, t.root)
	for range 2 {
		t.must(t.h.CommitLayer(ctx, t.id, two, one))
		t.chain(top, one, t.root)
	}
	for range 2 {
		t.must(t.h.PullLayer(ctx, t.id, top, t.root))
		t.chain(top, t.root)
	}
	t.must(t.h.PullLayer(ctx, t.id, top, t.host.Image.Path))
	t.chain(top)
	t.state(vm.DomainRunning)
}

// memoryIsTaken of a machine that runs on. Another one goes on in it, halted, on the disk that is defined by then.
func memoryIsTaken(t *snapshotTrial) {
	ctx := t.Context()
	t.begin()
	t.must(t.h.Resume(ctx, t.id))
	next := t.take(t.root, t.host.Memory)
	t.chain(next, t.root)
	t.state(vm.DomainRunning)
	_, err := t.h.StartFromMemory(ctx, t.id, t.host.Memory, nil)
	t.refused("StartFromMemory", err, errdefs.ErrFailedPrecondition)
	t.must(t.h.Destroy(ctx, t.id))
	back := t.host.Overlay(t.T, layer(t.root))
	t.must(t.h.DefineDisks(ctx, t.id, bootFiles(back, layer(t.root), t.host.Image)))
	_, err = t.h.StartFromMemory(ctx, t.id, t.host.Memory, nil)
	t.must(err)
	t.state(vm.DomainPaused)
	t.chain(back, t.root)
	t.must(t.h.Resume(ctx, t.id))
	t.state(vm.DomainRunning)
}

// twoDisksAreTaken in one moment, or neither is; one of them has nothing below it. They come back with memory, and what is
// under either is merged.
func twoDisksAreTaken(t *snapshotTrial) {
	ctx := t.Context()
	t.begin()
	data := t.host.Data(t.T)
	t.must(t.h.AttachDisk(ctx, t.id, vm.MachineDisk{
		Path: data, Format: vm.FormatQCOW2, Bus: vm.BusVirtio, ErrorPolicy: "report", Serial: "data", Target: "vdc",
	}))
	t.must(t.h.Resume(ctx, t.id))
	root, image := t.root, t.host.Image.Path
	both := func(wrong string, memory string) (string, string, error) {
		r, d := t.host.Overlay(t.T, layer(root)), t.host.Overlay(t.T, layer(data))
		return r, d, t.h.Snapshot(ctx, t.id, vm.Snapshotting{Disks: []vm.Switch{{Disk: root, Next: r}, {Disk: data + wrong, Next: d}}, Memory: memory})
	}
	_, _, err := both("-not", "")
	t.refused("Snapshot", err, errdefs.ErrFailedPrecondition)
	t.chains([]string{root, image}, []string{data})
	root1, data1, err := both("", t.host.Memory)
	t.must(err)
	t.chains([]string{root1, root, image}, []string{data1, data})
	t.must(t.h.Destroy(ctx, t.id))
	root2, data2 := t.host.Overlay(t.T, layer(root)), t.host.Overlay(t.T, layer(data))
	files := append(bootFiles(root2, layer(root), t.host.Image), vm.DiskFiles{Target: "vdc", Path: data2, Backing: []vm.BackingFile{layer(data)}},
		vm.DiskFiles{Target: "vdx", Path: data1})
	for range 2 {
		t.must(t.h.DefineDisks(ctx, t.id, files))
	}
	_, err = t.h.StartFromMemory(ctx, t.id, t.host.Memory, nil)
	t.must(err)
	t.must(t.h.Resume(ctx, t.id))
	t.chains([]string{root2, root, image}, []string{data2, data})
	t.refused("PullLayer", t.h.PullLayer(ctx, t.id, data1, ""), errdefs.ErrFailedPrecondition)
	for range 2 {
		t.must(t.h.PullLayer(ctx, t.id, data2, ""))
		t.chains([]string{root2, root, image}, []string{data2})
	}
	root, data = root2, data2
	root3, data3, err := both("", "")
	t.must(err)
	root, data = root3, data3
	root4, data4, err := both("", "")
	t.must(err)
	for range 2 {
		t.must(t.h.CommitLayer(ctx, t.id, data3, data2))
		t.chains([]string{root4, root3, root2, t.root, image}, []string{data4, data2})
	}
	t.state(vm.DomainRunning)
}

// whatUEFIKeeps is made with the first start, goes on in another file where that is defined, and outlives the domain.
func whatUEFIKeeps(t *snapshotTrial) {
	ctx := t.Context()
	first, second := t.host.NVRAM[0], t.host.NVRAM[1]
	there := func(wantFirst, wantSecond bool) {
		t.Helper()
		if t.host.Exists(first) != wantFirst || t.host.Exists(second) != wantSecond {
			t.Errorf("the first is there: %v, the second: %v; want %v, %v", t.host.Exists(first), t.host.Exists(second), wantFirst, wantSecond)
		}
	}
	m := t.machine()
	m.NVRAM = first
	m.Disks = []vm.MachineDisk{{
		Path: t.root, Format: vm.FormatQCOW2, Bus: vm.BusVirtio, Boot: true, ErrorPolicy: "report", Backing: []vm.BackingFile{t.host.Image},
	}}
	t.must(t.h.Define(ctx, m))
	there(false, false)
	t.must(t.h.Start(ctx, t.id))
	there(true, false)
	t.must(t.h.Resume(ctx, t.id))
	next := t.take(t.root, t.host.Memory)
	t.must(t.h.Destroy(ctx, t.id))
	files := bootFiles(next, layer(t.root), t.host.Image)
	files[0].NVRAM = second
	for range 2 {
		t.must(t.h.DefineDisks(ctx, t.id, files))
	}
	_, err := t.h.StartFromMemory(ctx, t.id, t.host.Memory, nil)
	t.must(err)
	there(true, true)
	t.must(t.h.Resume(ctx, t.id))
	t.must(t.h.Destroy(ctx, t.id))
	t.must(t.h.Start(ctx, t.id))
	t.must(t.h.Destroy(ctx, t.id))
	for range 2 {
		t.must(t.h.Undefine(ctx, t.id))
	}
	there(true, true)
}
