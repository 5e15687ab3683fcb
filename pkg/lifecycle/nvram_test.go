// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/annotations"
	"github.com/vmlet/vmlet/pkg/lifecycle"
	"github.com/vmlet/vmlet/pkg/vm"
)

// byUEFI is what a pod asks whose VM boots by UEFI, beside what it asks else.
func byUEFI(asks map[string]string) map[string]string {
	out := maps.Clone(asks)
	if out == nil {
		out = map[string]string{}
	}
	out[annotations.Firmware] = "efi"
	return out
}

// bootsUEFI makes a pod whose VM boots by UEFI.
func (w *world) bootsUEFI(attempt uint32, asks map[string]string) (sandboxID, containerID string) {
	w.t.Helper()
	sandboxID = w.podWith("a", attempt, byUEFI(asks))
	containerID = w.created(sandboxID, 0)
	w.must(w.svc.StartContainer(w.t.Context(), containerID))
	return sandboxID, containerID
}

// nvramOf is the file that the VM's firmware keeps its variables in.
func (w *world) nvramOf(sandboxID string) string {
	w.t.Helper()
	m, ok := w.hypervisor.Machine(sandboxID)
	if !ok || m.NVRAM == "" || !w.there(m.NVRAM) {
		w.t.Fatalf("sandbox %s has no NVRAM: %q", sandboxID, m.NVRAM)
	}
	return m.NVRAM
}

func (w *world) setVariable(sandboxID, value string) {
	w.t.Helper()
	w.disks.Put(w.nvramOf(sandboxID), "variable", value)
}

func (w *world) variableIs(sandboxID, want string) {
	w.t.Helper()
	if got := w.disks.Get(w.nvramOf(sandboxID), "variable"); got != want {
		w.t.Errorf("the firmware has %q, want %q", got, want)
	}
}

// nvrams are all files of firmwares.
func (w *world) nvrams() []string {
	return slices.DeleteFunc(w.disks.Files(), func(path string) bool { return !strings.HasSuffix(path, ".nvram") })
}

// TestWhatTheFirmwareKeepsLivesAsLongAsTheRootDisk, by whichever policy that lives.
func TestWhatTheFirmwareKeepsLivesAsLongAsTheRootDisk(t *testing.T) {
	for name, tc := range map[string]struct {
		asks            map[string]string
		restart, repeat string
	}{
		"sandbox": {nil, "mine", ""}, "fresh": {fresh, "", ""}, "persistent": {persistent, "mine", "mine"}, "claimed": {claimed, "mine", "mine"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			sb, c := w.bootsUEFI(0, tc.asks)
			w.setVariable(sb, "mine")
			w.stopContainer(c)
			w.must(w.svc.StartContainer(t.Context(), w.created(sb, 1)))
			w.variableIs(sb, tc.restart)
			if got := w.nvrams(); len(got) != 1 {
				t.Errorf("there are %v", got)
			}
			w.removeSandbox(sb)
			sb, _ = w.bootsUEFI(1, tc.asks)
			w.variableIs(sb, tc.repeat)
			w.removeSandbox(sb)
			if tc.repeat != "" {
				w.removeDisk()
			}
			if got := w.nvrams(); len(got) > 0 {
				t.Errorf("left are %v", got)
			}
		})
	}
}

// TestAGuestBootsByBIOSUnlessItsPodAsksOtherwise.
func TestAGuestBootsByBIOSUnlessItsPodAsksOtherwise(t *testing.T) {
	w := newWorld(t)
	for i, asks := range []map[string]string{nil, {annotations.Firmware: "bios"}} {
		sb := w.podWith(fmt.Sprint("p", i), 0, asks)
		w.must(w.svc.StartContainer(t.Context(), w.created(sb, 0)))
		if m, _ := w.hypervisor.Machine(sb); m.NVRAM != "" || len(w.nvrams()) > 0 {
			t.Errorf("with %v it has %q", asks, m.NVRAM)
		}
	}
}

// TestAPersistentDiskKeepsItsFirmware: a guest that finds nothing to boot from says so to nobody.
func TestAPersistentDiskKeepsItsFirmware(t *testing.T) {
	for name, tc := range map[string]struct{ was, now map[string]string }{
		"BIOS": {claimed, byUEFI(claimed)}, "UEFI": {byUEFI(claimed), claimed},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			first := w.podWith("a", 0, tc.was)
			w.created(first, 0)
			w.removeSandbox(first)
			_, err := w.svc.CreateContainer(t.Context(), w.podWith("b", 0, tc.now), containerSpec(0))
			w.refuses(err, errdefs.ErrFailedPrecondition, "vmletctl disk rm")
			if !strings.Contains(err.Error(), annotations.Firmware) || w.disk().Status.Holder != first {
				t.Errorf("it is held by %s: %v", w.disk().Status.Holder, err)
			}
			w.created(w.podWith("c", 0, tc.was), 0)
		})
	}
}

func TestUEFIIsRefusedWhereTheHostHasNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.die()
		w.adjust = func(deps *lifecycle.Deps) { deps.Hypervisor = bareHost{deps.Hypervisor} }
		w.start()
		synctest.Wait()
		sb := w.podWith("a", 0, byUEFI(nil))
		_, err := w.svc.CreateContainer(t.Context(), sb, containerSpec(0))
		w.refuses(err, errdefs.ErrFailedPrecondition, "package ovmf")
		w.created(w.sandbox("b"), 0)
	})
}

// variableInASnapshot boots a VM whose firmware keeps "then", takes a snapshot, and has it keep "now".
func (w *world) variableInASnapshot(asks map[string]string, memory bool) (sandboxID string) {
	w.t.Helper()
	sandboxID, _ = w.bootsUEFI(0, asks)
	w.setVariable(sandboxID, "then")
	_, err := w.take(sandboxID, "s", memory)
	w.must(err)
	w.setVariable(sandboxID, "now")
	return sandboxID
}

// TestASnapshotHasWhatTheFirmwareKept, gives it back each time, and takes it along.
func TestASnapshotHasWhatTheFirmwareKept(t *testing.T) {
	for name, tc := range map[string]struct {
		asks             map[string]string
		memory, diskOnly bool
	}{
		"disk": {}, "memory": {memory: true}, "disk of memory": {memory: true, diskOnly: true}, "persistent": {asks: persistent},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				sb := w.variableInASnapshot(tc.asks, tc.memory)
				w.variableIs(sb, "now")
				for range 2 {
					w.must(w.svc.RestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: "s", DiskOnly: tc.diskOnly}))
					w.variableIs(sb, "then")
					w.setVariable(sb, "later")
				}
				synctest.Wait()
				if got := w.nvrams(); len(got) != 2 {
					t.Errorf("there are %v", got)
				}
				w.must(w.svc.DeleteSnapshot(t.Context(), sb, "s"))
				synctest.Wait()
				w.variableIs(sb, "later")
				if got := w.nvrams(); len(got) != 1 {
					t.Errorf("left are %v", got)
				}
			})
		})
	}
}

// TestASnapshotOfAVMThatIsOffHasWhatTheFirmwareKept, also of one that was never started, which has nothing yet.
func TestASnapshotOfAVMThatIsOffHasWhatTheFirmwareKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb := w.podWith("a", 0, byUEFI(nil))
		c := w.created(sb, 0)
		_, err := w.take(sb, "new", false)
		w.must(err)
		w.must(w.svc.StartContainer(t.Context(), c))
		w.setVariable(sb, "then")
		w.stopContainer(c)
		_, err = w.take(sb, "off", false)
		w.must(err)
		for name, want := range map[string]string{"new": "", "off": "then"} {
			w.must(w.svc.RestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: name}))
			attempt := uint32(len(name)) + uint32(len(want))
			c := w.created(sb, attempt)
			w.must(w.svc.StartContainer(t.Context(), c))
			w.variableIs(sb, want)
			w.setVariable(sb, "other")
			w.stopContainer(c)
		}
	})
}

// TestARestoreThatFailsLeavesWhatTheFirmwareKeeps as it was before.
func TestARestoreThatFailsLeavesWhatTheFirmwareKeeps(t *testing.T) {
	for _, step := range []string{"CopyFile", "Start", "DefineDisks"} {
		t.Run(step, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				sb := w.variableInASnapshot(nil, false)
				w.hypervisor.FailNext(step, errdefs.ErrInternal)
				w.disks.FailNext(step, errdefs.ErrInternal)
				if err := w.svc.RestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: "s"}); err == nil {
					t.Error("it was restored")
				}
				synctest.Wait()
				w.must(w.svc.StartContainer(t.Context(), w.created(sb, 1)))
				w.variableIs(sb, "now")
				if got := w.nvrams(); len(got) != 2 {
					t.Errorf("there are %v", got)
				}
			})
		})
	}
}

// busyFirmware is a libvirt whose guests' firmware writes while a snapshot is taken, as often as it says.
type busyFirmware struct {
	lifecycle.Hypervisor

	writes int
	write  func(id string, n int)
}

func (b *busyFirmware) Snapshot(ctx context.Context, id string, what vm.Snapshotting) error {
	if b.writes > 0 {
		b.writes--
		b.write(id, b.writes)
	}
	return b.Hypervisor.Snapshot(ctx, id, what)
}

// TestDiskAndFirmwareOfASnapshotAreOfOneMoment: where the firmware writes meanwhile it is taken again, and at last refused.
func TestDiskAndFirmwareOfASnapshotAreOfOneMoment(t *testing.T) {
	for writes, taken := range map[int]bool{2: true, 3: false} {
		t.Run(fmt.Sprint(writes, " times"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				busy := &busyFirmware{write: func(id string, n int) {
					w.setVariable(id, fmt.Sprint("written ", n))
					if st := w.sandboxOf(id).Status; len(st.Snapshots) != 1 || len(st.Operations) != 1 || st.Operations[0].Object != st.Snapshots[0].ID {
						t.Errorf("a restart would find %+v for %+v", st.Operations, st.Snapshots)
					}
				}}
				w.die()
				w.adjust = func(deps *lifecycle.Deps) {
					busy.Hypervisor = deps.Hypervisor
					deps.Hypervisor = busy
				}
				w.start()
				sb, _ := w.bootsUEFI(0, nil)
				busy.writes = writes
				_, err := w.take(sb, "s", false)
				if !taken {
					w.refuses(err, errdefs.ErrUnavailable, "what its firmware keeps")
					synctest.Wait()
					if st := w.sandboxOf(sb).Status; len(st.Snapshots)+len(st.Layers) > 0 || len(w.nvrams()) != 1 {
						t.Errorf("left are %+v, %v", st.DiskTree, w.nvrams())
					}
					return
				}
				w.must(err)
				w.setVariable(sb, "later")
				w.must(w.svc.RestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: "s"}))
				w.variableIs(sb, "written 0")
			})
		})
	}
}

// TestACheckpointHoldsWhatTheFirmwareKeeps.
func TestACheckpointHoldsWhatTheFirmwareKeeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.bootsUEFI(0, nil)
		w.setVariable(sb, "then")
		from, err := w.svc.Checkpoint(t.Context(), sb, checkpointDir)
		w.must(err)
		if len(from.Files) != 3 || from.Firmware != vm.FirmwareEFI {
			t.Errorf("the manifest is %+v", from)
		}
		synctest.Wait()
		if got := w.nvrams(); len(got) != 1 {
			t.Errorf("there are %v", got)
		}
		w.must(w.svc.RemoveSandbox(t.Context(), sb))
		_, err = w.svc.RestorePod(t.Context(), restoreOf("a"))
		w.refuses(err, errdefs.ErrFailedPrecondition, "booted by efi, and the pod's boots by bios")
		ask := restoreOf("a")
		ask.Sandbox.Annotations = byUEFI(nil)
		w.disks.ChangeManifest(checkpointDir, func(c *vm.Checkpoint) {
			c.Files = slices.DeleteFunc(slices.Clone(c.Files), func(f vm.CheckpointFile) bool { return f.Name == vm.CheckpointNVRAM })
		})
		_, err = w.svc.RestorePod(t.Context(), ask)
		w.refuses(err, errdefs.ErrDataLoss, vm.CheckpointNVRAM)
		w.disks.ChangeManifest(checkpointDir, func(c *vm.Checkpoint) { c.Files = from.Files })
		pod, err := w.svc.RestorePod(t.Context(), ask)
		w.must(err)
		if path := w.sandboxOf(pod.SandboxID).Status.Disks[0].NVRAM; w.disks.Get(path, "variable") != "then" {
			t.Errorf("%s was not brought", path)
		}
		w.must(w.svc.StartContainer(t.Context(), pod.ContainerID))
		w.variableIs(pod.SandboxID, "then")
		w.must(w.svc.RemoveSandbox(t.Context(), pod.SandboxID))
		if got := w.nvrams(); len(got) > 0 {
			t.Errorf("left are %v", got)
		}
	})
}

// TestASnapshotThatIsAdoptedHasTheFirmwareOfItsMoment: one that libvirt went on with by itself is taken if its UEFI kept nothing
// new meanwhile, and undone else.
func TestASnapshotThatIsAdoptedHasTheFirmwareOfItsMoment(t *testing.T) {
	for name, changed := range map[string]bool{"as it was": false, "changed": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				sb, _ := w.bootsUEFI(0, nil)
				w.setVariable(sb, "then")
				op, release := w.held(sb)
				w.die()
				if changed {
					w.setVariable(sb, "meanwhile")
				}
				release()
				w.start()
				got := w.ended(op.ID)
				time.Sleep(time.Hour)
				st := w.sandboxOf(sb).Status
				if changed {
					if got.State != vm.OperationFailed || !strings.Contains(got.Error, "what its firmware keeps") || len(st.Snapshots)+len(st.Layers) > 0 || len(w.nvrams()) != 1 {
						t.Errorf("it is %+v, with %+v and %v", got, st.DiskTree, w.nvrams())
					}
					return
				}
				if got.State != vm.OperationSucceeded || len(st.Snapshots) != 1 || len(w.nvrams()) != 2 {
					t.Errorf("it is %+v, with %+v and %v", got, st.DiskTree, w.nvrams())
				}
			})
		})
	}
}
