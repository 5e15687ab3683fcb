// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/annotations"
	"github.com/vmlet/vmlet/pkg/lifecycle"
	"github.com/vmlet/vmlet/pkg/vm"
)

// roomy is a pod whose VM has 2 CPUs of 4 and, in 256 MiB, headroom up to 1 GiB.
func roomy() map[string]string {
	return map[string]string{annotations.VCPUs: "2", annotations.VCPUsMax: "4", annotations.Memory: "256Mi", annotations.MemoryMax: "1Gi"}
}

// roomyPod has that, and limits with room for all of it.
func (w *world) roomyPod() (sandboxID, containerID string) {
	w.t.Helper()
	sb, c := w.made(vm.Resources{CPUPeriod: 100000, CPUQuota: 400000, MemoryLimit: 2 * vm.GiB}, roomy())
	w.start1(c)
	return sb, c
}

func (w *world) resize(sandboxID string, ask vm.SizeAsk) vm.Resized {
	w.t.Helper()
	did, err := w.svc.Resize(w.t.Context(), sandboxID, vm.ResizeRequest{SizeAsk: ask})
	if err != nil {
		w.t.Fatal(err)
	}
	return did
}

// plugged is what the machine has: CPUs, and MiB plugged.
func (w *world) plugged(sandboxID string) (vcpus int, plugged int64) {
	w.t.Helper()
	size, err := w.hypervisor.LiveSize(context.Background(), sandboxID)
	if err != nil {
		w.t.Fatal(err)
	}
	return size.VCPUs, size.Plugged / vm.MiB
}

// sized checks machine, definition and record, in CPUs and MiB.
func (w *world) sized(sandboxID, containerID string, vcpus int, memory int64) {
	w.t.Helper()
	gotCPUs, plugged := w.plugged(sandboxID)
	m, _ := w.hypervisor.Machine(sandboxID)
	st := w.container(containerID).Status
	if gotCPUs != vcpus || plugged != memory-256 {
		w.t.Errorf("the machine has %d CPUs and %d MiB plugged, want %d and %d", gotCPUs, plugged, vcpus, memory-256)
	}
	if m.CPU.Count != vcpus || m.Memory != memory*vm.MiB {
		w.t.Errorf("the definition has %d CPUs and %d MiB, want %d and %d", m.CPU.Count, m.Memory/vm.MiB, vcpus, memory)
	}
	if st.Size.VCPUs != vcpus || st.Size.Memory != memory*vm.MiB || st.Resize != nil {
		w.t.Errorf("on record are %+v and resize %+v, want %d CPUs and %d MiB", st.Size, st.Resize, vcpus, memory)
	}
}

func TestAVMIsGivenMoreAndLess(t *testing.T) {
	w := newWorld(t)
	sb, c := w.roomyPod()
	did := w.resize(sb, vm.SizeAsk{VCPUs: 3, Memory: 768*vm.MiB + 5, CpusetCPUs: "0-1", CPUShares: 512})
	w.sized(sb, c, 3, 768)
	if got := did.CPUs; got.Before != 2 || got.After != 3 || got.Outcome != vm.ResizeApplied || did.GuestCPUs != 3 {
		t.Errorf("told of CPUs: %+v, %d", got, did.GuestCPUs)
	}
	if got := did.Memory; got.Before != 256*vm.MiB || got.After != 768*vm.MiB || got.Outcome != vm.ResizeApplied || !strings.Contains(got.Detail, "blocks of 2 MiB") {
		t.Errorf("told of memory: %+v", got)
	}
	if got := did.CpusetCPUs; got.After != "0-1" || got.Outcome != vm.ResizeApplied || did.CpusetMems.Outcome != "" || did.CPUShares.After != 512 {
		t.Errorf("told of places: %+v", did)
	}
	if got := w.limits(sb); got.CpusetCPUs != "0-1" || got.CPUShares != 512 || got.CPUQuota != 400000 {
		t.Errorf("the group has %+v", got)
	}

	did = w.resize(sb, vm.SizeAsk{VCPUs: 1, Memory: 512 * vm.MiB})
	w.sized(sb, c, 3, 512) // CPUs are never taken from a guest
	if got := w.limits(sb); got.CPUQuota != 100000 || got.CpusetCPUs != "0-1" {
		t.Errorf("the group has %+v", got)
	}
	if got := did.CPUs; got.Before != 3 || got.After != 1 || got.Outcome != vm.ResizeApplied || did.GuestCPUs != 3 || !strings.Contains(got.Detail, "quota") {
		t.Errorf("told of CPUs: %+v, %d", got, did.GuestCPUs)
	}
	if got := w.container(c).Held().Resources; got.CPUQuota != 100000 {
		t.Errorf("clients are told of %+v", got)
	}
	w.restart()
	if got := w.limits(sb); got.CPUQuota != 100000 {
		t.Errorf("after a restart the group has %+v", got)
	}
	w.resize(sb, vm.SizeAsk{VCPUs: 2})
	if got := w.limits(sb); got.CPUQuota != 200000 {
		t.Errorf("the group has %+v", got)
	}
	w.resize(sb, vm.SizeAsk{VCPUs: 3})
	if got := w.limits(sb); got.CPUQuota != 400000 {
		t.Errorf("without a ceiling the group has %+v", got)
	}
}

func TestACeilingGoesWhereThePodHasNoLimit(t *testing.T) {
	w := newWorld(t)
	sb, c := w.made(vm.Resources{CPUShares: 2}, roomy())
	w.start1(c)
	w.resize(sb, vm.SizeAsk{VCPUs: 1})
	if got := w.limits(sb).CPUQuota; got != 100000 {
		t.Errorf("the quota is %d", got)
	}
	w.resize(sb, vm.SizeAsk{VCPUs: 2})
	if got := w.limits(sb).CPUQuota; got != -1 { // 0 would leave it as it is
		t.Errorf("the quota is %d", got)
	}
}

func TestCPUsWithoutTheTimeForThemArePartly(t *testing.T) {
	w := newWorld(t)
	sb, c := w.made(vm.Resources{CPUPeriod: 100000, CPUQuota: 150000}, roomy())
	w.start1(c)
	did := w.resize(sb, vm.SizeAsk{VCPUs: 4})
	if got := did.CPUs; got.After != 4 || got.Outcome != vm.ResizePartly || !strings.Contains(got.Detail, "1.50 CPUs") {
		t.Errorf("told %+v", got)
	}
}

func TestMemoryThatTheGuestKeepsIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.roomyPod()
		w.resize(sb, vm.SizeAsk{Memory: vm.GiB})
		w.hypervisor.BoundMemory(400*vm.MiB, 0)
		did := w.resize(sb, vm.SizeAsk{Memory: 256 * vm.MiB})
		if got := did.Memory; got.Outcome != vm.ResizePartly || got.After != 688*vm.MiB || got.Requested != 256*vm.MiB || !strings.Contains(got.Detail, "down to 656 MiB") {
			t.Errorf("told %+v", got)
		}
		w.sized(sb, c, 2, 688)
		w.hypervisor.BoundMemory(0, 0)
		synctest.Wait()
		w.sized(sb, c, 2, 688) // the guest was told to keep it: nothing changes unseen
	})
}

// A guest that is asked for more than it can spare would kill processes.
func TestAGuestIsNotAskedForWhatItUses(t *testing.T) {
	w := newWorld(t)
	sb, c := w.roomyPod()
	w.resize(sb, vm.SizeAsk{Memory: vm.GiB})
	const meminfo = "MemTotal:        1000000 kB\nMemFree:           10000 kB\nMemAvailable:     524288 kB\n"
	w.guest.AddFolder(sb, "/proc")
	if err := w.guest.WriteFile(t.Context(), sb, vm.WriteGuestFile{Path: "/proc/meminfo"}, strings.NewReader(meminfo)); err != nil {
		t.Fatal(err)
	}
	did := w.resize(sb, vm.SizeAsk{Memory: 256 * vm.MiB})
	if got := did.Memory; got.Outcome != vm.ResizePartly || got.After != 544*vm.MiB || !strings.Contains(got.Detail, "uses the rest") {
		t.Errorf("told %+v", got)
	}
	w.sized(sb, c, 2, 544)
}

func TestMemoryThatTheGuestDoesNotTakeIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.roomyPod()
		w.hypervisor.BoundMemory(0, 128*vm.MiB)
		did := w.resize(sb, vm.SizeAsk{Memory: vm.GiB, VCPUs: 4})
		if got := did.Memory; got.Outcome != vm.ResizePartly || got.After != 384*vm.MiB || !strings.Contains(got.Detail, "virtio_mem") {
			t.Errorf("told %+v", got)
		}
		if did.CPUs.Outcome != vm.ResizeApplied {
			t.Errorf("told of CPUs: %+v", did.CPUs)
		}
		w.sized(sb, c, 4, 384)
	})
}

// QEMU has no room for another emulated CPU at times.
func TestCPUsThatHaveNoRoomJustNowAreTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.roomyPod()
		for range 3 {
			w.hypervisor.FailNext("AddVCPUs", errdefs.ErrResourceExhausted)
		}
		if did := w.resize(sb, vm.SizeAsk{VCPUs: 3}); did.CPUs.Outcome != vm.ResizeApplied {
			t.Errorf("told %+v", did.CPUs)
		}
		w.sized(sb, c, 3, 256)
		for range 1000 {
			w.hypervisor.FailNext("AddVCPUs", errdefs.ErrResourceExhausted)
		}
		if did := w.resize(sb, vm.SizeAsk{VCPUs: 4}); did.CPUs.Outcome != vm.ResizePartly || did.CPUs.After != 3 || did.CPUs.Detail == "" {
			t.Errorf("told %+v", did.CPUs)
		}
		w.sized(sb, c, 3, 256)
	})
}

func TestWhatAVMCannotHaveIsRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		ask   vm.SizeAsk
		class error
		says  string
	}{
		"nothing":            {vm.SizeAsk{}, errdefs.ErrInvalidArgument, "nothing is asked for"},
		"CPUs below 1":       {vm.SizeAsk{VCPUs: -1}, errdefs.ErrInvalidArgument, "1 to 255"},
		"no set":             {vm.SizeAsk{CpusetCPUs: "0-1\n"}, errdefs.ErrInvalidArgument, "0-2,7"},
		"no nodes":           {vm.SizeAsk{CpusetMems: "a"}, errdefs.ErrInvalidArgument, "memory nodes"},
		"no shares":          {vm.SizeAsk{CPUShares: 1}, errdefs.ErrInvalidArgument, "from 2 to"},
		"more CPUs":          {vm.SizeAsk{VCPUs: 5}, errdefs.ErrFailedPrecondition, annotations.VCPUsMax},
		"more memory":        {vm.SizeAsk{Memory: vm.GiB + 2*vm.MiB}, errdefs.ErrFailedPrecondition, "from 256 MiB, which it has booted with, to 1024 MiB"},
		"less memory":        {vm.SizeAsk{Memory: 255 * vm.MiB}, errdefs.ErrFailedPrecondition, "from 256 MiB"},
		"more than the room": {vm.SizeAsk{Memory: 900 * vm.MiB}, errdefs.ErrFailedPrecondition, "there is only room for 673 MiB: the pod's memory limit"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			limits := vm.Resources{MemoryLimit: 2 * vm.GiB}
			if name == "more than the room" {
				limits.MemoryLimit = 833 * vm.MiB
			}
			sb, c := w.made(limits, roomy())
			w.start1(c)
			before := w.container(c)
			_, err := w.svc.Resize(t.Context(), sb, vm.ResizeRequest{SizeAsk: tc.ask})
			mustBe(t, err, tc.class)
			if !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%q does not say %q", err, tc.says)
			}
			if after := w.container(c); after.Status.Asked != before.Status.Asked || after.Status.Size != before.Status.Size {
				t.Errorf("on record are %+v", after.Status)
			}
		})
	}
}

func TestAVMWithoutHeadroomSaysSo(t *testing.T) {
	w := newWorld(t)
	sb, _ := w.running("a")
	_, err := w.svc.Resize(t.Context(), sb, vm.ResizeRequest{SizeAsk: vm.SizeAsk{Memory: vm.GiB}})
	mustBe(t, err, errdefs.ErrFailedPrecondition)
	if !strings.Contains(err.Error(), annotations.MemoryMax) {
		t.Error(err)
	}
}

func TestOnlyAVMThatIsLeftAloneIsResized(t *testing.T) {
	w := newWorld(t)
	sb, c := w.roomyPod()
	if err := w.svc.Pause(t.Context(), sb); err != nil {
		t.Fatal(err)
	}
	_, err := w.svc.Resize(t.Context(), sb, vm.ResizeRequest{SizeAsk: vm.SizeAsk{Memory: vm.GiB}})
	mustBe(t, err, errdefs.ErrFailedPrecondition)
	w.resize(sb, vm.SizeAsk{VCPUs: 3})
	w.sized(sb, c, 3, 256)
	_, other := w.made2("b")
	_, err = w.svc.Resize(t.Context(), other, vm.ResizeRequest{SizeAsk: vm.SizeAsk{VCPUs: 3}})
	mustBe(t, err, errdefs.ErrFailedPrecondition) // created, not started
}

// made2 makes another pod up to its created container.
func (w *world) made2(name string) (sandboxID, containerID string) {
	w.t.Helper()
	pod := podSpec(name)
	pod.Annotations = roomy()
	sandboxID, err := w.svc.RunSandbox(w.t.Context(), pod)
	if err != nil {
		w.t.Fatal(err)
	}
	return sandboxID, w.created(sandboxID, 0)
}

// What the owner asked for is in the sandbox's next machine too, as far as its limits allow.
func TestTheNextMachineHasWhatWasAskedFor(t *testing.T) {
	w := newWorld(t)
	sb, c := w.roomyPod()
	w.resize(sb, vm.SizeAsk{VCPUs: 1, Memory: 512 * vm.MiB})
	w.hypervisor.PowerOff(sb)
	w.exit(c)
	did := w.resize(sb, vm.SizeAsk{Memory: 640 * vm.MiB})
	if did.Memory.Outcome != vm.ResizeNextMachine {
		t.Errorf("told %+v", did.Memory)
	}
	_, err := w.svc.Resize(t.Context(), sb, vm.ResizeRequest{SizeAsk: vm.SizeAsk{Memory: 128 * vm.MiB}})
	w.refuses(err, errdefs.ErrInvalidArgument, "160 MiB are the least")
	w.created(sb, 1)
	if m, _ := w.hypervisor.Machine(sb); m.CPU.Count != 1 || m.Memory != 640*vm.MiB || m.BootMemory != 640*vm.MiB {
		t.Errorf("the next machine is %+v", m)
	}
}

// What was asked for and limits have no room for now is kept: it counts once they have, and holds up nothing else that is asked for.
func TestTheNextMachineIsAskedForMoreThanItsLimits(t *testing.T) {
	w := newWorld(t)
	sb, c := w.made(oneAndAHalf(), nil)
	w.start1(c)
	w.hypervisor.PowerOff(sb)
	w.exit(c)
	for _, ask := range []vm.SizeAsk{{Memory: 64 * vm.GiB}, {VCPUs: 2}} {
		if _, err := w.svc.Resize(t.Context(), sb, vm.ResizeRequest{SizeAsk: ask}); err != nil {
			t.Errorf("%+v: %v", ask, err)
		}
	}
}

func TestAClosedGateKeepsASize(t *testing.T) {
	w := newWorld(t)
	sb, c := w.roomyPod()
	w.resize(sb, vm.SizeAsk{VCPUs: 3, Memory: 512 * vm.MiB})
	for gate, ask := range map[vm.Gate]vm.SizeAsk{
		vm.GateCPUAdd: {VCPUs: 4}, vm.GateCPURemove: {VCPUs: 1},
		vm.GateMemoryAdd: {Memory: vm.GiB}, vm.GateMemoryRemove: {Memory: 256 * vm.MiB},
	} {
		w.svc.SetGates(lifecycle.Gates{"": {gate: true}})
		_, err := w.svc.Resize(t.Context(), sb, vm.ResizeRequest{SizeAsk: ask})
		mustBe(t, err, errdefs.ErrFailedPrecondition)
		if !strings.Contains(err.Error(), "gates."+string(gate)+" ") {
			t.Errorf("%s: %v", gate, err)
		}
		w.sized(sb, c, 3, 512)
	}
}

// followed is a pod whose VM's memory follows from its limit, with headroom.
func (w *world) followed() (sandboxID, containerID string) {
	w.t.Helper()
	sb, c := w.made(oneAndAHalf(), map[string]string{annotations.VCPUsMax: "4", annotations.MemoryMax: "1Gi"})
	w.start1(c)
	return sb, c
}

// kubelet changes first the pod's sums and then the container's limits.
func TestAMachineFollowsItsLimitsWithinItsHeadroom(t *testing.T) {
	w := newWorld(t)
	sb, c := w.followed()
	boot := w.container(c).Status.Size.Memory
	for _, limit := range []struct{ memory, cpus, guestCPUs int64 }{{1024, 3, 3}, {600, 1, 3}, {512, 2, 3}} {
		change := vm.Resources{MemoryLimit: limit.memory * vm.MiB, CPUQuota: limit.cpus * 100000}
		if err := w.svc.UpdateSandboxResources(t.Context(), sb, &change, nil); err != nil {
			t.Fatal(err)
		}
		if err := w.svc.UpdateContainerResources(t.Context(), c, change); err != nil {
			t.Fatal(err)
		}
		room := (limit.memory - 158) * vm.MiB * 511 / 512 // less QEMU's part, roughly
		vcpus, plugged := w.plugged(sb)
		if got := boot + plugged*vm.MiB; got > room+vm.MiB || got < room-4*vm.MiB || int64(vcpus) != limit.guestCPUs {
			t.Errorf("limit %+v: the guest has %d MiB and %d CPUs, room is %d", limit, got/vm.MiB, vcpus, room/vm.MiB)
		}
		if got := w.limits(sb); got.MemoryLimit != change.MemoryLimit || got.CPUQuota != change.CPUQuota {
			t.Errorf("limit %+v: the group has %+v", limit, got)
		}
		if got := w.container(c).Held().Resources; got.MemoryLimit != change.MemoryLimit {
			t.Errorf("told %+v", got)
		}
	}
	for _, memory := range []int64{500 * vm.MiB, 2 * vm.GiB} {
		err := w.svc.UpdateContainerResources(t.Context(), c, vm.Resources{MemoryLimit: memory})
		mustBe(t, err, errdefs.ErrFailedPrecondition)
		if !strings.Contains(err.Error(), "to 1023 MiB while it runs") {
			t.Error(err)
		}
	}
}

func TestAPodsOwnLimitMovesItsVM(t *testing.T) {
	w := newWorld(t)
	pod, limits := podSpec("a"), oneAndAHalf()
	pod.Resources, pod.Annotations = &limits, map[string]string{annotations.MemoryMax: "1Gi"}
	sb, err := w.svc.RunSandbox(t.Context(), pod)
	if err != nil {
		t.Fatal(err)
	}
	c := w.created(sb, 0)
	w.start1(c)
	if err := w.svc.UpdateSandboxResources(t.Context(), sb, &vm.Resources{MemoryLimit: vm.GiB}, nil); err != nil {
		t.Fatal(err)
	}
	if _, plugged := w.plugged(sb); plugged < 500 || w.limits(sb).MemoryLimit != vm.GiB {
		t.Errorf("plugged are %d MiB, the group has %+v", plugged, w.limits(sb))
	}
}

func TestALimitThatTheGuestCannotFollowIsUndone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.followed()
		bigger := vm.Resources{MemoryLimit: vm.GiB}
		if err := w.svc.UpdateContainerResources(t.Context(), c, bigger); err != nil {
			t.Fatal(err)
		}
		before, limits := w.container(c), w.limits(sb)
		_, plugged := w.plugged(sb)
		w.hypervisor.BoundMemory(100*vm.MiB, 0)
		err := w.svc.UpdateContainerResources(t.Context(), c, vm.Resources{MemoryLimit: 512 * vm.MiB, CPUQuota: 300000})
		mustBe(t, err, errdefs.ErrFailedPrecondition)
		if !strings.Contains(err.Error(), "all is as it was") || !strings.Contains(err.Error(), "down to") {
			t.Error(err)
		}
		after := w.container(c)
		if after.Status.Size != before.Status.Size || after.Status.Resize != nil || after.Status.Resources.MemoryLimit != vm.GiB || after.Status.Resources.CPUQuota != before.Status.Resources.CPUQuota {
			t.Errorf("on record are %+v, were %+v", after.Status, before.Status)
		}
		if vcpus, now := w.plugged(sb); now != plugged || vcpus != 2 {
			t.Errorf("the machine has %d CPUs and %d MiB plugged, had %d", vcpus, now, plugged)
		}
		if got := w.limits(sb); got.MemoryLimit != limits.MemoryLimit || got.CPUQuota != limits.CPUQuota {
			t.Errorf("the group has %+v, had %+v", got, limits)
		}
	})
}

// While a guest gives memory back its group has room for what it has: the kernel would kill it.
func TestAGroupIsNotNarrowedBeforeItsGuest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.followed()
		if err := w.svc.UpdateContainerResources(t.Context(), c, vm.Resources{MemoryLimit: vm.GiB}); err != nil {
			t.Fatal(err)
		}
		w.hypervisor.BoundMemory(100*vm.MiB, 0)
		done := make(chan error, 1)
		go func() {
			done <- w.svc.UpdateContainerResources(t.Context(), c, vm.Resources{MemoryLimit: 512 * vm.MiB})
		}()
		synctest.Wait()
		if got := w.limits(sb).MemoryLimit; got < 1000*vm.MiB {
			t.Errorf("the group has %d MiB while the guest still has most of a GiB", got/vm.MiB)
		}
		w.hypervisor.BoundMemory(0, 0)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if got := w.limits(sb).MemoryLimit; got != 512*vm.MiB {
			t.Errorf("the group has %d MiB", got/vm.MiB)
		}
	})
}

func TestAResizeThatCannotBeginChangesNothing(t *testing.T) {
	for _, step := range []string{"Update", "RequestMemory"} {
		t.Run(step, func(t *testing.T) {
			w := newWorld(t)
			sb, c := w.roomyPod()
			no := errors.New("no")
			if step == "Update" {
				w.cgroups.FailNext(step, no)
			} else {
				w.hypervisor.FailNext(step, no)
			}
			_, err := w.svc.Resize(t.Context(), sb, vm.ResizeRequest{SizeAsk: vm.SizeAsk{Memory: 512 * vm.MiB, VCPUs: 1}})
			mustBe(t, err, no)
			w.sized(sb, c, 2, 256)
			if got, err := w.svc.Sandbox(sb); err != nil || got.Status.Asked != (vm.SizeAsk{}) || w.container(c).Status.Asked != (vm.SizeAsk{}) {
				t.Errorf("on record are %+v, %v", got.Status, err)
			}
			if got := w.limits(sb).CPUQuota; got != 400000 {
				t.Errorf("the quota is %d", got)
			}
		})
	}
}

// A vmlet that dies in the middle finds the intent, and sees it through.
func TestAResizeGoesOnAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.roomyPod()
		w.hypervisor.BoundMemory(0, 64*vm.MiB)
		go func() {
			_, _ = w.svc.Resize( //nolint:errcheck // it is cut short
				t.Context(), sb, vm.ResizeRequest{SizeAsk: vm.SizeAsk{Memory: 512 * vm.MiB, VCPUs: 4}, Wait: time.Minute})
		}()
		synctest.Wait()
		w.restart()
		if w.container(c).Status.Resize == nil {
			t.Fatal("nothing is being resized")
		}
		w.hypervisor.BoundMemory(0, 0)
		synctest.Wait()
		w.sized(sb, c, 4, 512)
		got, err := w.svc.Sandbox(sb)
		if err != nil || got.Status.Asked.Memory != 512*vm.MiB {
			t.Errorf("on record are %+v, %v", got.Status.Asked, err)
		}
	})
}

// What is on record of a resize that was neither done nor taken back may not have reached the group.
func TestAResizeThatGoesOnSetsItsLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.roomyPod()
		no := errors.New("no")
		w.cgroups.FailNext("Update", no)
		w.hypervisor.FailNext("LiveSize", errdefs.ErrUnavailable)
		half := vm.SizeAsk{VCPUs: 1}
		_, err := w.svc.Resize(t.Context(), sb, vm.ResizeRequest{SizeAsk: half})
		mustBe(t, err, no)
		if w.container(c).Status.Resize == nil {
			t.Fatal("it was taken back")
		}
		w.resize(sb, half)
		w.sized(sb, c, 2, 256)
		if got := w.limits(sb).CPUQuota; got != 100000 {
			t.Errorf("the quota is %d, want that of one CPU", got)
		}
	})
}

// Nothing is set again that stays.
func TestLimitsThatStayAreLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.made(vm.Resources{}, roomy())
		w.start1(c)
		w.cgroups.FailNext("Update", errdefs.ErrUnavailable)
		w.resize(sb, vm.SizeAsk{VCPUs: 3})
		w.sized(sb, c, 3, 256)
	})
}

// A definition gets CPUs with its machine. One that ends to be booted again before they are on record has those of the record.
func TestAMachineBootsAgainWithTheCPUsOnRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.roomyPod()
		for range 2 { // until the machine has ended
			w.hypervisor.FailNext("DefineSize", errdefs.ErrUnavailable)
		}
		_, err := w.svc.Resize(t.Context(), sb, vm.ResizeRequest{SizeAsk: vm.SizeAsk{VCPUs: 3, Memory: 320 * vm.MiB}})
		mustBe(t, err, errdefs.ErrUnavailable)
		synctest.Wait()
		if m, _ := w.hypervisor.Machine(sb); m.CPU.Count != 3 {
			t.Fatalf("the definition has %d CPUs", m.CPU.Count)
		}
		for range 3 { // until the resize has ended, too
			w.hypervisor.FailNext("Start", errdefs.ErrUnavailable)
		}
		ended := w.rebooting(c, vm.RebootRequest{Mode: vm.RebootACPI})
		time.Sleep(time.Minute)
		w.guest.Boot(sb)
		if got := <-ended; got.err != nil {
			t.Error(got.err)
		}
		w.runsOn(c)
		w.sized(sb, c, 2, 256)
	})
}

// A guest whose CPUs are halted takes no memory.
func TestAVMThatIsBeingResizedIsNotPaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.roomyPod()
		w.hypervisor.BoundMemory(0, 64*vm.MiB)
		done := make(chan error, 1)
		go func() {
			_, err := w.svc.Resize(t.Context(), sb, vm.ResizeRequest{SizeAsk: vm.SizeAsk{Memory: 512 * vm.MiB}})
			done <- err
		}()
		synctest.Wait()
		w.refuses(w.svc.Pause(t.Context(), c), errdefs.ErrUnavailable, "being resized")
		w.must(<-done)
		w.must(w.svc.Pause(t.Context(), c))
	})
}

func TestAResizeOutlivesALibvirtThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.roomyPod()
		w.hypervisor.BoundMemory(0, 64*vm.MiB)
		done := make(chan error, 1)
		go func() {
			_, err := w.svc.Resize(t.Context(), sb, vm.ResizeRequest{SizeAsk: vm.SizeAsk{Memory: 512 * vm.MiB}})
			done <- err
		}()
		synctest.Wait()
		w.hypervisor.Disconnect()
		err := <-done
		mustBe(t, err, errdefs.ErrUnavailable)
		if !strings.Contains(err.Error(), "goes on") {
			t.Error(err)
		}
		w.hypervisor.BoundMemory(0, 0)
		w.hypervisor.Reconnect()
		time.Sleep(5 * time.Minute)
		w.sized(sb, c, 2, 512)
	})
}

func TestAVMThatEndsWhileItIsResized(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.roomyPod()
		w.hypervisor.BoundMemory(0, 64*vm.MiB)
		done := make(chan error, 1)
		go func() {
			_, err := w.svc.Resize(t.Context(), sb, vm.ResizeRequest{SizeAsk: vm.SizeAsk{Memory: 512 * vm.MiB}})
			done <- err
		}()
		synctest.Wait()
		w.hypervisor.PowerOff(sb)
		mustBe(t, <-done, errdefs.ErrFailedPrecondition)
		w.exit(c)
	})
}

// A reboot by another QEMU keeps the size.
func TestAMachineThatBootsAgainHasItsSize(t *testing.T) {
	w := newWorld(t)
	sb, c := w.roomyPod()
	w.resize(sb, vm.SizeAsk{VCPUs: 3, Memory: 512 * vm.MiB})
	if err := w.hypervisor.Destroy(t.Context(), sb); err != nil {
		t.Fatal(err)
	}
	w.exit(c)
	if err := w.hypervisor.Start(t.Context(), sb); err != nil {
		t.Fatal(err)
	}
	if got, err := w.hypervisor.LiveSize(t.Context(), sb); err != nil || got.VCPUs != 3 || got.Requested != 256*vm.MiB {
		t.Errorf("it has %+v, %v", got, err)
	}
}

func TestNoSnapshotIsTakenOfAVMThatIsBeingResized(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.roomyPod()
		w.hypervisor.BoundMemory(0, 64*vm.MiB)
		done := make(chan error, 1)
		go func() {
			_, err := w.svc.Resize(t.Context(), sb, vm.ResizeRequest{SizeAsk: vm.SizeAsk{Memory: 512 * vm.MiB}})
			done <- err
		}()
		synctest.Wait()
		_, err := w.svc.CreateSnapshot(t.Context(), sb, vm.SnapshotRequest{Name: "s", Memory: true})
		mustBe(t, err, errdefs.ErrUnavailable)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// The memory of a snapshot is of a machine with the size of its time.
func TestASnapshotOfAnotherSizeIsRefusedByName(t *testing.T) {
	w := newWorld(t)
	sb, _ := w.roomyPod()
	if _, err := w.svc.CreateSnapshot(t.Context(), sb, vm.SnapshotRequest{Name: "s", Memory: true}); err != nil {
		t.Fatal(err)
	}
	w.resize(sb, vm.SizeAsk{Memory: 512 * vm.MiB})
	err := w.svc.RestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: "s"})
	mustBe(t, err, errdefs.ErrFailedPrecondition)
	if !strings.Contains(err.Error(), "256 MiB") || !strings.Contains(err.Error(), "512 MiB") || !strings.Contains(err.Error(), "resize") {
		t.Error(err)
	}
	w.resize(sb, vm.SizeAsk{Memory: 256 * vm.MiB})
	if err := w.svc.RestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: "s"}); err != nil {
		t.Error(err)
	}
}
