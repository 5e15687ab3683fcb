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

const isoPath = "/isos/tools.iso"

// equipped makes a VM with a share, two attached NICs and a disk that it can only read.
func (w *world) equipped() (sandboxID string, spec vm.ContainerSpec) {
	w.t.Helper()
	spec = containerSpec(0)
	spec.Mounts = []vm.Mount{{ContainerPath: "/data", HostPath: w.t.TempDir()}}
	sb, _ := w.started("a", spec)
	synctest.Wait()
	_, err := w.svc.AttachNIC(w.t.Context(), sb, vm.NICSpec{Name: "eth1", Network: "second", Tag: "t"}, nil)
	w.must(err)
	_, err = w.svc.AttachNIC(w.t.Context(), sb, vm.NICSpec{Name: "eth2"}, []byte(`{"name":"mine"}`))
	w.must(err)
	w.disks.AddSource(isoPath, vm.DiskSource{Identity: "1:7", Size: 3 * vm.MiB})
	_, err = w.svc.AttachDisk(w.t.Context(), sb, "tools", vm.DataDiskSpec{Path: isoPath, Format: vm.FormatRaw, ReadOnly: true})
	w.must(err)
	return sb, spec
}

// equippedCheckpoint makes one of such a VM, and removes its pod.
func (w *world) equippedCheckpoint() (vm.Checkpoint, vm.PodRestore) {
	w.t.Helper()
	sb, spec := w.equipped()
	from, err := w.svc.Checkpoint(w.t.Context(), sb, checkpointDir)
	w.must(err)
	synctest.Wait()
	w.shared(sb, true)
	w.must(w.svc.RemoveSandbox(w.t.Context(), sb))
	return from, vm.PodRestore{Dir: checkpointDir, Sandbox: podSpec("a"), Container: spec}
}

// TestACheckpointKeepsWhatWasAttached: NICs with their addresses and their own network, disks, and the share.
func TestACheckpointKeepsWhatWasAttached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		from, req := w.equippedCheckpoint()
		pod, err := w.svc.RestorePod(t.Context(), req)
		w.must(err)
		sb := w.sandboxOf(pod.SandboxID)
		if len(sb.Status.NICs) != 2 || len(sb.Status.DataDisks) != 1 || len(from.AttachedNICs) != 2 {
			t.Fatalf("the sandbox has %+v, %+v", sb.Status.NICs, sb.Status.DataDisks)
		}
		for i, n := range sb.Status.NICs {
			had := from.AttachedNICs[i]
			if n.State != vm.NICAttached || n.Spec.Name != had.Spec.Name || n.Number != had.Number || n.NIC.MAC != had.NIC.MAC ||
				!slices.Equal(n.NIC.IPs[:1], had.NIC.IPs[:1]) || n.NIC.Tap == had.NIC.Tap {
				t.Errorf("NIC %+v, %+v, was %+v", n, *n.NIC, *had.NIC)
			}
		}
		if d := sb.Status.DataDisks[0]; d.State != vm.DataDiskAttached || d.Target != from.DataDisks[0].Target || d.Serial != "tools" || d.Identity != "1:7" || d.ID == from.DataDisks[0].ID {
			t.Errorf("disk %+v, was %+v", d, from.DataDisks[0])
		}
		if config, err := w.network.NICConfig(t.Context(), sb.ID, "eth2"); err != nil || string(config) != `{"name":"mine"}` {
			t.Errorf("eth2 is attached by %q, %v", config, err)
		}
		w.must(w.svc.StartContainer(t.Context(), pod.ContainerID))
		synctest.Wait()
		w.shared(sb.ID, true)
		if nics := w.hypervisor.NICs(sb.ID); len(nics) != 3 || nics[sb.Status.NICs[0].NIC.Tap].MAC != sb.Status.NICs[0].NIC.MAC {
			t.Errorf("the machine has %+v", nics)
		}
		if told := w.guest.NICs(sb.ID); len(told) != 2 || len(w.guest.Readdressed(sb.ID)) > 0 {
			t.Errorf("the guest was told of %v, and readdressed to %v", told, w.guest.Readdressed(sb.ID))
		}
		// The same calls find them.
		_, err = w.svc.AttachNIC(t.Context(), sb.ID, vm.NICSpec{Name: "eth2"}, []byte(`{"name":"mine"}`))
		w.must(err)
		_, err = w.svc.AttachDisk(t.Context(), sb.ID, "tools", vm.DataDiskSpec{Path: isoPath, Format: vm.FormatRaw, ReadOnly: true})
		w.must(err)
		w.must(w.svc.DetachNIC(t.Context(), sb.ID, "eth1", 0))
		w.must(w.svc.RemoveSandbox(t.Context(), sb.ID))
		w.nothingLeft()
	})
}

// TestAnAttachedNICIsReaddressedToo, and only it, where its addresses are another's by now.
func TestAnAttachedNICIsReaddressedToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		_, req := w.equippedCheckpoint()
		w.network.FailNext("AttachNIC", errdefs.ErrUnknown) // eth1, by the addresses that it has
		pod, err := w.svc.RestorePod(t.Context(), req)
		w.must(err)
		w.must(w.svc.StartContainer(t.Context(), pod.ContainerID))
		synctest.Wait()
		now := w.sandboxOf(pod.SandboxID).Status.NICs[0].NIC
		if got := w.guest.Readdressed(pod.SandboxID); len(got) != 1 || got["eth1"].MAC != now.MAC || !slices.Equal(got["eth1"].IPs, now.IPs) {
			t.Errorf("the guest has %+v, and its network gave %+v", got, now)
		}
		if len(w.container(pod.ContainerID).Status.Checkpoint.NICs) > 0 {
			t.Error("it would be readdressed again")
		}
	})
}

// TestACarrierThatWasTakenStaysAway: the guest's memory knows it so.
func TestACarrierThatWasTakenStaysAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, spec := w.equipped()
		for _, name := range []string{"eth0", "eth1"} {
			_, err := w.svc.SetLinkState(t.Context(), sb, name, false)
			w.must(err)
		}
		_, err := w.svc.Checkpoint(t.Context(), sb, checkpointDir)
		w.must(err)
		w.must(w.svc.RemoveSandbox(t.Context(), sb))
		pod, err := w.svc.RestorePod(t.Context(), vm.PodRestore{Dir: checkpointDir, Sandbox: podSpec("a"), Container: spec})
		w.must(err)
		for i, nic := range w.sandboxOf(pod.SandboxID).NICs() {
			if nic.Down != (i < 2) {
				t.Errorf("NIC %s is down: %v", nic.Name, nic.Down)
			}
		}
	})
}

// TestDevicesThatAreNotHereAreRefusedFirst: before anything is done.
func TestDevicesThatAreNotHereAreRefusedFirst(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil func(w *world)
		class error
		words string
	}{
		"no network":       {func(w *world) { w.network.Forget() }, errdefs.ErrFailedPrecondition, `NIC eth1, which cannot be had here: no network "second"`},
		"no disk":          {func(w *world) { w.disks.FailNext("Source", errdefs.ErrNotFound) }, errdefs.ErrFailedPrecondition, `disk "tools", which cannot be had here`},
		"another disk":     {func(w *world) { w.disks.AddSource(isoPath, vm.DiskSource{Identity: "1:8", Size: vm.MiB}) }, errdefs.ErrFailedPrecondition, "has 1048576 bytes"},
		"gate for NICs":    {func(w *world) { w.svc.SetGates(lifecycle.Gates{"": {vm.GateNICAdd: true}}) }, errdefs.ErrFailedPrecondition, "gates.hotplug.nic.add"},
		"gate for disks":   {func(w *world) { w.svc.SetGates(lifecycle.Gates{"": {vm.GateDiskAdd: true}}) }, errdefs.ErrFailedPrecondition, "gates.hotplug.disk.add"},
		"a mount's folder": {nil, errdefs.ErrFailedPrecondition, "does not exist"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				_, req := w.equippedCheckpoint()
				if tc.spoil == nil {
					req.Container.Mounts = []vm.Mount{{ContainerPath: "/data", HostPath: "/none/such"}}
				} else {
					tc.spoil(w)
				}
				before := len(w.network.Calls())
				_, err := w.svc.RestorePod(t.Context(), req)
				w.refuses(err, tc.class, tc.words)
				for _, call := range w.network.Calls()[before:] {
					if strings.HasPrefix(call, "Setup") || strings.HasPrefix(call, "AttachNIC") {
						t.Errorf("called %s", call)
					}
				}
				w.nothingLeft()
			})
		})
	}
}

// TestARestoreWithDevicesThatFailsLeavesNothing, at whichever step.
func TestARestoreWithDevicesThatFailsLeavesNothing(t *testing.T) {
	for _, step := range []string{"AttachNIC", "Source", "FetchMemory", "Define"} {
		t.Run(step, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				_, req := w.equippedCheckpoint()
				for range 2 { // the network is asked twice
					w.network.FailNext(step, errdefs.ErrInternal)
				}
				if step == "Source" {
					w.disks.FailNext(step, nil) // it is looked at before
				}
				w.disks.FailNext(step, errdefs.ErrInternal)
				w.hypervisor.FailNext(step, errdefs.ErrInternal)
				if _, err := w.svc.RestorePod(t.Context(), req); err == nil || !strings.Contains(err.Error(), errdefs.ErrInternal.Error()) {
					t.Errorf("got %v", err)
				}
				w.nothingLeft()
				_, err := w.svc.RestorePod(t.Context(), req)
				w.must(err)
			})
		})
	}
}

// TestAShareIsBackAfterACheckpointThatFails, and the folder is empty.
func TestAShareIsBackAfterACheckpointThatFails(t *testing.T) {
	busy := fmt.Errorf("the share is in use: /data/f by process 7 (cat): %w", errdefs.ErrFailedPrecondition)
	for name, fail := range map[string]func(w *world){
		"busy":     func(w *world) { w.guest.FailNext("UnmountShares", busy) },
		"snapshot": func(w *world) { w.hypervisor.FailNext("Snapshot", errdefs.ErrInternal) },
		"plug":     func(w *world) { w.hypervisor.FailNext("ReplugShare", errdefs.ErrUnavailable) },
		"copy":     func(w *world) { w.disks.FailNext("WriteCheckpoint", errdefs.ErrInternal) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				sb, _ := w.equipped()
				fail(w)
				if _, err := w.svc.Checkpoint(t.Context(), sb, checkpointDir); err == nil {
					t.Error("it was taken")
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				w.shared(sb, true)
				if got := w.disks.CheckpointsIn(); len(got) > 0 {
					t.Errorf("left are %v", got)
				}
			})
		})
	}
}

// TestAShareTakesAMachineThatWasMadeForOne: QEMU does not share its memory otherwise.
func TestAShareTakesAMachineThatWasMadeForOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.checkpointed()
		req := restoreOf("a")
		req.Container.Mounts = []vm.Mount{{ContainerPath: "/data", HostPath: t.TempDir()}}
		_, err := w.svc.RestorePod(t.Context(), req)
		w.refuses(err, errdefs.ErrFailedPrecondition, "/data takes a virtiofs device")
		w.nothingLeft()
	})
}

// TestAMachineThatChangesMeanwhileIsNotWritten: its memory may be of before or after that.
func TestAMachineThatChangesMeanwhileIsNotWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.equipped()
		release := w.hypervisor.Block("Snapshot")
		ended := make(chan error, 1)
		go func() {
			_, err := w.svc.Checkpoint(t.Context(), sb, checkpointDir)
			ended <- err
		}()
		w.must(w.hypervisor.WaitCall(t.Context(), "Snapshot "+sb))
		_, err := w.svc.SetLinkState(t.Context(), sb, "eth1", false)
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

func TestWhatTheGuestCanWriteToOrHasLetGoOfIsInNoCheckpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.equipped()
		w.source("/srv/data")
		w.attach(sb, "data", byPath("/srv/data"))
		_, err := w.svc.Checkpoint(t.Context(), sb, checkpointDir)
		w.refuses(err, errdefs.ErrFailedPrecondition, "can write to disks that were attached to it by their path (data)")
		w.must(w.svc.DetachDisk(t.Context(), sb, "data", vm.DetachRequest{Wait: time.Second}))
		w.hypervisor.ReleaseNIC(sb, w.sandboxOf(sb).Status.NICs[0].NIC.Tap)
		synctest.Wait()
		_, err = w.svc.Checkpoint(t.Context(), sb, checkpointDir)
		w.refuses(err, errdefs.ErrFailedPrecondition, "let go of its NIC eth1")
		if n := w.count("UnplugShare " + sb); n > 0 {
			t.Errorf("the share was unplugged %d times", n)
		}
	})
}

// TestAResizedVMKeepsItsSizeInACheckpoint, and who restores it gives the configuration that it had.
func TestAResizedVMKeepsItsSizeInACheckpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.roomyPod()
		w.resize(sb, vm.SizeAsk{VCPUs: 3, Memory: 512 * vm.MiB, CPUShares: 77, CpusetCPUs: "0"})
		is := w.container(c).Status.Size
		from, err := w.svc.Checkpoint(t.Context(), sb, checkpointDir)
		w.must(err)
		if from.Machine != is || from.Configured.VCPUs != 2 || from.Configured.Memory != 256*vm.MiB || from.Asked.CpusetCPUs != "" {
			t.Errorf("the manifest is %+v", from)
		}
		w.must(w.svc.RemoveSandbox(t.Context(), sb))
		req := vm.PodRestore{Dir: checkpointDir, Sandbox: from.Sandbox, Container: from.Container}
		less := req
		small := *req.Container.Resources
		small.MemoryLimit = 500 * vm.MiB
		less.Container.Resources = &small
		_, err = w.svc.RestorePod(t.Context(), less)
		w.refuses(err, errdefs.ErrFailedPrecondition, "only room for")
		other := req
		other.Sandbox.Annotations = map[string]string{"vmlet.io/vcpus": "3", "vmlet.io/memory": "512Mi", "vmlet.io/max-memory": "1Gi", "vmlet.io/max-vcpus": "4"}
		_, err = w.svc.RestorePod(t.Context(), other)
		w.refuses(err, errdefs.ErrFailedPrecondition, "a machine with 3 CPUs and 512 MiB (at most 4 and 1024), whose configuration makes one with 2 CPUs and 256 MiB")
		pod, err := w.svc.RestorePod(t.Context(), req)
		w.must(err)
		w.must(w.svc.StartContainer(t.Context(), pod.ContainerID))
		synctest.Wait()
		if got := w.container(pod.ContainerID).Status; got.Size != is || got.Asked.VCPUs != 3 || w.sandboxOf(pod.SandboxID).Status.Asked != got.Asked {
			t.Errorf("it is %+v, was %+v", got, is)
		}
		w.sized(pod.SandboxID, pod.ContainerID, 3, 512)
		if limits := w.limits(pod.SandboxID); limits.CPUShares != 77 {
			t.Errorf("its group has %+v", limits)
		}
		w.must(w.svc.RemoveSandbox(t.Context(), pod.SandboxID))
		w.nothingLeft()
	})
}

// TestAPartOfAResizeIsASizeToo: what the guest has reached is in the checkpoint, whatever was asked for.
func TestAPartOfAResizeIsASizeToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.roomyPod()
		w.hypervisor.BoundMemory(0, 100*vm.MiB)
		w.resize(sb, vm.SizeAsk{Memory: 512 * vm.MiB, VCPUs: 1})
		from, err := w.svc.Checkpoint(t.Context(), sb, checkpointDir)
		w.must(err)
		w.must(w.svc.RemoveSandbox(t.Context(), sb))
		_, err = w.svc.RestorePod(t.Context(), vm.PodRestore{Dir: checkpointDir, Sandbox: from.Sandbox, Container: from.Container})
		w.must(err)
	})
}

// TestACheckpointOfBeforeHasOneSize: version 1 was of machines that were not resized.
func TestACheckpointOfBeforeHasOneSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.checkpointed()
		w.disks.ChangeManifest(checkpointDir, func(c *vm.Checkpoint) { c.Version, c.Configured = 1, vm.MachineSize{} })
		req := restoreOf("a")
		req.Container.Resources = &vm.Resources{MemoryLimit: 512 * vm.MiB}
		_, err := w.svc.RestorePod(t.Context(), req)
		w.refuses(err, errdefs.ErrFailedPrecondition, "MiB")
		_, err = w.svc.RestorePod(t.Context(), restoreOf("a"))
		w.must(err)
	})
}
