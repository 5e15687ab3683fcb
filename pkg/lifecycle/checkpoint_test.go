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

	"github.com/vmlet/vmlet/pkg/lifecycle"
	"github.com/vmlet/vmlet/pkg/lifecycle/lifecycletest"
	"github.com/vmlet/vmlet/pkg/revert"
	"github.com/vmlet/vmlet/pkg/vm"
)

const checkpointDir = lifecycletest.Checkpoints + "/a"

// checkpointed makes a VM, a checkpoint of it, and removes its pod.
func (w *world) checkpointed() vm.Checkpoint {
	w.t.Helper()
	sb, _ := w.running("a")
	w.disks.Put(w.sandboxOf(sb).Status.Disks[0].Path, "data", "one")
	c, err := w.svc.Checkpoint(w.t.Context(), sb, checkpointDir)
	w.must(err)
	synctest.Wait()
	w.must(w.svc.RemoveSandbox(w.t.Context(), sb))
	return c
}

func restoreOf(name string) vm.PodRestore {
	return vm.PodRestore{Dir: checkpointDir, Sandbox: podSpec(name), Container: containerSpec(0)}
}

func TestACheckpointLeavesItsVMAsItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.running("a")
		_, err := w.take(sb, "mine", false)
		w.must(err)
		before := w.sandboxOf(sb).Status
		events := w.watch(sb, "")
		synctest.Wait()
		got, err := w.svc.Checkpoint(t.Context(), "default/a", checkpointDir)
		w.must(err)
		if got.SandboxID != sb || got.ContainerID != c || got.MainID != c || len(got.NICs) != 1 || len(got.Files) != 2 ||
			got.Machine != w.container(c).Status.Size || got.MachineType != "pc-q35-7.2" || got.QEMU != "7.2.19" || got.Accel != vm.AccelTCG {
			t.Errorf("the manifest is %+v", got)
		}
		if all, err := w.svc.Snapshots(t.Context(), sb); err != nil || len(all) != 1 || !all[0].Current {
			t.Errorf("snapshots are %+v, %v", all, err)
		}
		synctest.Wait()
		after := w.sandboxOf(sb).Status
		if len(after.Layers) != len(before.Layers) || len(after.Snapshots) != 1 || after.Current != before.Current {
			t.Errorf("the sandbox is %+v, was %+v", after, before)
		}
		for _, file := range w.disks.Files() {
			if strings.Contains(file, "checkpoint") || strings.Contains(file, "memory") {
				t.Errorf("%s is left", file)
			}
		}
		if seen, _ := events.words(); slices.ContainsFunc(seen, func(word string) bool { return strings.Contains(word, "snapshot") }) {
			t.Errorf("watchers were told of %v", seen)
		}
		events.stop(t)
		if got := w.disks.CheckpointsIn(); !slices.Equal(got, []string{checkpointDir}) {
			t.Errorf("checkpoints are %v", got)
		}
	})
}

// TestACheckpointThatFailsLeavesNothing, at whichever step: neither in its folder nor in the sandbox, and the VM runs on.
func TestACheckpointThatFailsLeavesNothing(t *testing.T) {
	for _, step := range []string{"Snapshot", "SavedMachine", "PullFile", "SetBase", "WriteCheckpoint", "EndCheckpoint"} {
		t.Run(step, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				sb, c := w.running("a")
				w.hypervisor.FailNext(step, errdefs.ErrInternal)
				w.disks.FailNext(step, errdefs.ErrInternal)
				if _, err := w.svc.Checkpoint(t.Context(), sb, checkpointDir); !errdefs.IsInternal(err) {
					t.Errorf("got %v", err)
				}
				if got := w.disks.CheckpointsIn(); len(got) > 0 {
					t.Errorf("left are %v", got)
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				if st := w.sandboxOf(sb).Status; len(st.Snapshots)+len(st.Layers) > 0 {
					t.Errorf("the sandbox has %+v", st)
				}
				if d, err := w.hypervisor.Domain(t.Context(), sb); err != nil || d.State != vm.DomainRunning || w.container(c).Status.State != vm.ContainerRunning {
					t.Errorf("the VM is %s, %v", d.State, err)
				}
				_, err := w.svc.Checkpoint(t.Context(), sb, checkpointDir)
				w.must(err)
			})
		})
	}
}

// TestACheckpointEndsWithItsCaller: who hears of an error relies on finding nothing.
func TestACheckpointEndsWithItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.running("a")
		release := w.disks.Block("WriteCheckpoint")
		defer release()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now() // of the bubble's clock
		if _, err := w.svc.Checkpoint(ctx, sb, checkpointDir); !errdefs.IsDeadlineExceeded(err) || time.Since(begin) != time.Second {
			t.Errorf("got %v after %s", err, time.Since(begin))
		}
		release()
		synctest.Wait()
		if got := w.disks.CheckpointsIn(); len(got) > 0 {
			t.Errorf("left are %v", got)
		}
	})
}

func TestWhatACheckpointCannotHoldIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.running("a")
		_, err := w.svc.Checkpoint(t.Context(), sb, "/elsewhere")
		w.refuses(err, errdefs.ErrFailedPrecondition, "not below")
		_, err = w.svc.Checkpoint(t.Context(), w.sandbox("empty"), checkpointDir)
		w.refuses(err, errdefs.ErrFailedPrecondition, "no VM runs")
		w.source("/srv/data")
		w.attach(sb, "data", byPath("/srv/data"))
		_, err = w.svc.Checkpoint(t.Context(), sb, checkpointDir)
		w.refuses(err, errdefs.ErrFailedPrecondition, "(data)")
		w.svc.SetGates(lifecycle.Gates{"": {vm.GateSnapshots: true}})
		w.detach(sb, "data", vm.DetachRequest{Wait: time.Second})
		_, err = w.svc.Checkpoint(t.Context(), c, checkpointDir)
		w.refuses(err, errdefs.ErrFailedPrecondition, "gates.snapshots")
		if got := w.disks.CheckpointsIn(); len(got) > 0 {
			t.Errorf("left are %v", got)
		}
	})
}

func TestARestoredContainerGoesOnFromItsMemoryOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		from := w.checkpointed()
		pod, err := w.svc.RestorePod(t.Context(), restoreOf("a"))
		w.must(err)
		sb, c := w.sandboxOf(pod.SandboxID), w.container(pod.ContainerID)
		if sb.Status.State != vm.SandboxReady || c.Status.State != vm.ContainerCreated || sb.ID == from.SandboxID || c.ID == from.ContainerID {
			t.Errorf("made are %+v, %+v", sb.Status, c.Status)
		}
		if nic := sb.Status.Network.NICs[0]; nic.MAC != from.NICs[0].MAC || !slices.Equal(nic.IPs, from.NICs[0].IPs) {
			t.Errorf("its NIC is %+v, was %+v", nic, from.NICs[0])
		}
		if got := w.disks.Get(sb.Status.Disks[0].Path, "data"); got != "one" {
			t.Errorf("its disk has %q", got)
		}
		w.must(w.svc.StartContainer(t.Context(), c.ID))
		synctest.Wait()
		if n := w.count("StartFromMemory " + sb.ID); n != 1 || w.count("Start "+sb.ID) != 0 {
			t.Errorf("started from memory %d times", n)
		}
		if _, there := w.disks.File(w.node.SnapshotMemory(sb.ID, from.ID)); there {
			t.Error("its memory is still there")
		}
		if len(w.guest.Readdressed(sb.ID)) > 0 {
			t.Error("a guest that has its addresses was given others")
		}
		w.hypervisor.PowerOff(sb.ID)
		synctest.Wait()
		next := w.created(sb.ID, 1)
		w.must(w.svc.StartContainer(t.Context(), next))
		if w.count("Start "+sb.ID) != 1 {
			t.Error("the next container did not boot")
		}
		w.must(w.svc.RemoveSandbox(t.Context(), sb.ID))
		w.nothingLeft()
	})
}

// TestARestoredCommandIsFoundByTheNameThatTheGuestKnows: the agent would take another name for another command.
func TestARestoredCommandIsFoundByTheNameThatTheGuestKnows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		spec := containerSpec(0)
		spec.Command = []string{"serve"}
		sb := w.sandbox("a")
		c, err := w.svc.CreateContainer(t.Context(), sb, spec)
		w.must(err)
		w.must(w.svc.StartContainer(t.Context(), c))
		synctest.Wait()
		_, err = w.svc.Checkpoint(t.Context(), sb, checkpointDir)
		w.must(err)
		w.must(w.svc.RemoveSandbox(t.Context(), sb))
		req := restoreOf("a")
		_, err = w.svc.RestorePod(t.Context(), req)
		w.refuses(err, errdefs.ErrFailedPrecondition, "command of container")
		req.Container.Command = []string{"serve"}
		pod, err := w.svc.RestorePod(t.Context(), req)
		w.must(err)
		w.must(w.svc.StartContainer(t.Context(), pod.ContainerID))
		synctest.Wait()
		if main := w.guest.Main(pod.SandboxID); main == nil || main.ID != c {
			t.Errorf("the guest was asked for %+v, and knows %s", main, c)
		}
		w.clockIs(pod.SandboxID, time.Now())
	})
}

// TestAGuestIsReaddressedWhereItsAddressesAreTaken, once.
func TestAGuestIsReaddressedWhereItsAddressesAreTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.checkpointed()
		w.network.FailNext("Setup", errdefs.ErrUnknown)
		pod, err := w.svc.RestorePod(t.Context(), restoreOf("a"))
		w.must(err)
		w.must(w.svc.StartContainer(t.Context(), pod.ContainerID))
		synctest.Wait()
		now := w.sandboxOf(pod.SandboxID).Status.Network.NICs[0]
		if got := w.guest.Readdressed(pod.SandboxID); got["eth0"].MAC != now.MAC {
			t.Errorf("the guest has %+v, and its network gave %+v", got, now)
		}
		if len(w.container(pod.ContainerID).Status.Checkpoint.NICs) > 0 {
			t.Error("it would be readdressed again")
		}
	})
}

// TestAPodIsNotRestoredBesideItself, under any name.
func TestAPodIsNotRestoredBesideItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.running("a")
		_, err := w.svc.Checkpoint(t.Context(), sb, checkpointDir)
		w.must(err)
		other := restoreOf("other")
		_, err = w.svc.RestorePod(t.Context(), other)
		w.refuses(err, errdefs.ErrAlreadyExists, "has the VM")
		w.must(w.svc.StopSandbox(t.Context(), sb))
		_, err = w.svc.RestorePod(t.Context(), restoreOf("a"))
		w.refuses(err, errdefs.ErrAlreadyExists, "same attempt")
		next := restoreOf("a")
		next.Sandbox.Attempt = 1
		pod, err := w.svc.RestorePod(t.Context(), next)
		w.must(err)
		_, err = w.svc.RestorePod(t.Context(), other)
		w.refuses(err, errdefs.ErrAlreadyExists, "of the same checkpoint")
		again := next
		again.Sandbox.UID = "another"
		_, err = w.svc.RestorePod(t.Context(), again)
		w.refuses(err, errdefs.ErrAlreadyExists, "of the same pod")
		w.must(w.svc.RemoveSandbox(t.Context(), pod.SandboxID))
		_, err = w.svc.RestorePod(t.Context(), other)
		w.must(err)
	})
}

// TestARestoreHoldsUpNoOther: what waits for the network, or copies, keeps nobody from the records.
func TestARestoreHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.checkpointed()
		release := w.network.Block("Setup")
		first := make(chan error, 1)
		go func() {
			_, err := w.svc.RestorePod(t.Context(), restoreOf("a"))
			first <- err
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := w.svc.RestorePod(ctx, restoreOf("other"))
		w.refuses(err, errdefs.ErrAlreadyExists, "of the same checkpoint")
		release()
		w.must(<-first)
	})
}

// TestARestoreThatFailsLeavesNothing, at whichever step.
func TestARestoreThatFailsLeavesNothing(t *testing.T) {
	for _, step := range []string{"ReadCheckpoint", "Setup", "FetchDisk", "FetchMemory", "SetBase", "WriteSeed", "Define"} {
		t.Run(step, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.checkpointed()
				for range 2 { // the network is asked twice
					w.network.FailNext(step, errdefs.ErrInternal)
				}
				w.disks.FailNext(step, errdefs.ErrInternal)
				w.hypervisor.FailNext(step, errdefs.ErrInternal)
				if _, err := w.svc.RestorePod(t.Context(), restoreOf("a")); !errdefs.IsInternal(err) {
					t.Errorf("got %v", err)
				}
				w.nothingLeft()
			})
		})
	}
}

// TestAnUndoThatFailsIsFinishedByRecovery.
func TestARestoreWhoseUndoFailsIsFinishedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.checkpointed()
		w.hypervisor.FailNext("Define", errdefs.ErrInternal)
		w.network.FailNext("Teardown", errdefs.ErrInternal)
		_, err := w.svc.RestorePod(t.Context(), restoreOf("a"))
		w.refuses(err, revert.ErrIncomplete, "network setup")
		w.restart()
		all := w.svc.Sandboxes()
		if len(all) != 1 || all[0].Status.State != vm.SandboxNotReady {
			t.Fatalf("sandboxes are %+v", all)
		}
		w.must(w.svc.RemoveSandbox(t.Context(), all[0].ID))
		w.nothingLeft()
	})
}

func TestACheckpointThatIsNotAsItWasWrittenIsNotRestored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.checkpointed()
		for name, change := range map[string]func(*vm.PodRestore){
			"the container \"vm\"": func(r *vm.PodRestore) { r.Container.Name = "other" },
			"MiB":                  func(r *vm.PodRestore) { r.Container.Resources = &vm.Resources{MemoryLimit: 512 * vm.MiB} },
			"persistent":           func(r *vm.PodRestore) { r.Sandbox.Annotations = map[string]string{"vmlet.io/root-disk": "persistent"} },
			"image":                func(r *vm.PodRestore) { r.Container.ImageRef = "registry.test/none:1" },
			"working_dir":          func(r *vm.PodRestore) { r.Container.WorkingDir = "/else" },
		} {
			req := restoreOf("a")
			change(&req)
			if _, err := w.svc.RestorePod(t.Context(), req); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s: %v", name, err)
			}
		}
		w.disks.SpoilCheckpoint(checkpointDir, vm.CheckpointMemory)
		_, err := w.svc.RestorePod(t.Context(), restoreOf("a"))
		w.refuses(err, errdefs.ErrDataLoss, vm.CheckpointMemory)
		w.nothingLeft()
	})
}

// TestMemoryIsNotUsedTwice: the guest has gone on, and its disk with it.
func TestMemoryIsNotUsedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.checkpointed()
		pod, err := w.svc.RestorePod(t.Context(), restoreOf("a"))
		w.must(err)
		w.hypervisor.FailNext("Resume", errdefs.ErrInternal)
		if err := w.svc.StartContainer(t.Context(), pod.ContainerID); err == nil {
			t.Error("it was started")
		}
		if st := w.container(pod.ContainerID).Status; st.State != vm.ContainerExited || st.Exit.Reason != vm.ReasonStartError {
			t.Errorf("the container is %+v", st)
		}
		if n := w.count("StartFromMemory " + pod.SandboxID); n != 1 {
			t.Errorf("started from memory %d times", n)
		}
	})
}

// TestMemoryThatWasUsedIsNotUsedAgain by the vmlet after the one that died just then: its QEMU has ended, and the guest has
// written to the disk.
func TestMemoryThatWasUsedIsNotUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.checkpointed()
		pod, err := w.svc.RestorePod(t.Context(), restoreOf("a"))
		w.must(err)
		_, err = w.store.Containers().Update(pod.ContainerID, "test", func(c vm.Container) (vm.Container, error) {
			from := *c.Status.Checkpoint
			from.Pending = false
			c.Status.State, c.Status.Checkpoint = vm.ContainerStarting, &from
			return c, nil
		})
		w.must(err)
		w.restart()
		synctest.Wait()
		if st := w.container(pod.ContainerID).Status; st.State != vm.ContainerExited || !strings.Contains(st.Exit.Message, "gone on from its checkpoint") {
			t.Errorf("the container is %+v", st)
		}
		if n := w.count("StartFromMemory "+pod.SandboxID) + w.count("Start "+pod.SandboxID); n != 0 {
			t.Errorf("started %d times", n)
		}
	})
}

// TestMemoryIsOnRecordAsUsedBeforeTheGuestGoesOn.
func TestMemoryIsOnRecordAsUsedBeforeTheGuestGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.checkpointed()
		pod, err := w.svc.RestorePod(t.Context(), restoreOf("a"))
		w.must(err)
		release := w.hypervisor.Block("Resume")
		started := make(chan error, 1)
		go func() { started <- w.svc.StartContainer(t.Context(), pod.ContainerID) }()
		w.must(w.hypervisor.WaitCall(t.Context(), "Resume "+pod.SandboxID))
		if from := w.container(pod.ContainerID).Status.Checkpoint; from.Pending {
			t.Error("it would be used again")
		}
		release()
		w.must(<-started)
	})
}

// TestAHalfRestoredPodIsUndoneByTheNextVmlet, also one whose container was made already.
func TestAHalfRestoredPodIsUndoneByTheNextVmlet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.checkpointed()
		pod, err := w.svc.RestorePod(t.Context(), restoreOf("a"))
		w.must(err)
		_, err = w.store.Sandboxes().Update(pod.SandboxID, "test", func(sb vm.Sandbox) (vm.Sandbox, error) {
			sb.Status.State = vm.SandboxCreating
			return sb, nil
		})
		w.must(err)
		w.restart()
		w.nothingLeft()
		if all := w.svc.Containers(); len(all) > 0 {
			t.Errorf("left are %+v", all)
		}
		_, err = w.svc.RestorePod(t.Context(), restoreOf("a"))
		w.must(err)
	})
}

// TestACheckpointThatWasCutShortIsRemovedByTheNextVmlet, and its VM has no layer more.
func TestACheckpointThatWasCutShortIsRemovedByTheNextVmlet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.running("a")
		w.hypervisor.Block("PullLayer") // what it took stays on record
		_, err := w.svc.Checkpoint(t.Context(), sb, checkpointDir)
		w.must(err)
		synctest.Wait()
		// As it is on record before the last step.
		_, err = w.store.Sandboxes().Update(sb, "test", func(sb vm.Sandbox) (vm.Sandbox, error) {
			sb.Status.Snapshots = slices.Clone(sb.Status.Snapshots)
			for i := range sb.Status.Snapshots {
				sb.Status.Snapshots[i].State = vm.SnapshotReady
				sb.Status.Snapshots[i].Checkpoint = &vm.CheckpointFolder{Dir: checkpointDir, Root: lifecycletest.Checkpoints, Made: true}
			}
			return sb, nil
		})
		w.must(err)
		w.die()
		w.hypervisor.Block("PullLayer")()
		w.start()
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := w.disks.CheckpointsIn(); len(got) > 0 {
			t.Errorf("left are %v", got)
		}
		if st := w.sandboxOf(sb).Status; len(st.Snapshots)+len(st.Layers) > 0 {
			t.Errorf("the sandbox has %+v", st)
		}
	})
}
