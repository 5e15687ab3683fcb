// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"pgregory.net/rapid"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
	"github.com/vmlet/vmlet/tests/harness"
)

type vmState string

const (
	vmOn     vmState = "on"
	vmPaused vmState = "paused"
	vmOff    vmState = "off"
	// vmHeld is off by PowerOff, and its container runs on.
	vmHeld vmState = "held"
)

// down says that there is no QEMU.
func (s vmState) down() bool { return s == vmOff || s == vmHeld }

// modelVM is a VM as it should be.
type modelVM struct {
	m     *model
	name  string
	spec  harness.Pod
	pod   *harness.Running
	state vmState
	// files are those on its root disk, memory is what a file in its memory has; with one a program counts there. boot is the boot
	// that its guest is in; "" for one that is not known yet, which wasBoot is not.
	files         map[string]string
	memory        string
	boot, wasBoot string
	size          modelSize
	asked         modelAsked
	// total is what Linux has of the memory that the guest has booted with at first, in bytes.
	total  int64
	layers layerTree
	snaps  map[string]*modelSnapshot
	nics   map[string]*vmletv1.NIC
	disks  map[string]*modelDisk
}

// modelSnapshot is what a snapshot should have.
type modelSnapshot struct {
	files  map[string]string
	layer  *layerNode
	memory bool
	// data are the data disks that are in it, by name.
	data map[string]modelPart
	// Of one with memory: what is in it, and what it is of.
	kept, boot, container string
	size                  modelSize
}

// modelDisk is what a data disk should be.
type modelDisk struct {
	size     int64
	text     string
	attached bool
	// target is its place in the machine while it is attached, layers is what is under it.
	target string
	layers layerTree
}

// modelPart is what a snapshot should have of a data disk.
type modelPart struct {
	size         int64
	text, target string
	layer        *layerNode
}

func newModelVM(m *model, name string) *modelVM {
	spec := harness.Pod{Name: name, Annotations: modelHeadroom}
	v := &modelVM{m: m, name: name, spec: spec, files: map[string]string{}}
	v.in(m.node.Run(spec))
	v.state = vmOn
	return v
}

// in is the VM in a new sandbox, which has nothing yet that was done to it.
func (v *modelVM) in(pod *harness.Running) {
	v.pod, v.layers, v.snaps, v.nics, v.disks = pod, layerTree{}, map[string]*modelSnapshot{}, map[string]*vmletv1.NIC{}, map[string]*modelDisk{}
	v.asked = modelAsked{}
	v.size = v.sizeAtStart()
}

func sortedKeys[T any](m map[string]T) []string { return slices.Sorted(maps.Keys(m)) }

func (v *modelVM) names() []string    { return sortedKeys(v.snaps) }
func (v *modelVM) hasSnapshots() bool { return len(v.snaps) > 0 }

func pick(v *modelVM, what string, from []string) string {
	one := rapid.SampledFrom(from).Draw(v.m.rt, what)
	v.m.tell("%s", one)
	return one
}

// free is one of some names that is not taken, or "" where all are.
func free[T any](kind string, most int, taken map[string]T) string {
	for i := range most {
		name := fmt.Sprintf("%s%d", kind, i+1)
		if _, is := taken[name]; !is {
			return name
		}
	}
	return ""
}

// exec runs a script in the guest: until it answers, since it may have just booted.
func (v *modelVM) exec(script string) {
	v.m.t.Helper()
	v.m.node.Eventually(2*time.Minute, func() error {
		_, err := v.pod.TryExec(v.m.t.Context(), "sh", "-c", script)
		return err
	})
}

func (v *modelVM) write() {
	name, text := pick(v, "file", []string{"a", "b", "c"}), v.m.fresh()
	v.exec("mkdir -p /model && echo " + text + " >/model/" + name + " && sync")
	v.files[name] = text
}

// keep puts a text where only the guest's memory is, beside a program that counts.
func (v *modelVM) keep() {
	v.memory = v.m.fresh()
	v.exec("echo " + v.memory + " >/run/model; [ -e /run/count ] && exit; echo 0 >/run/count; " + countInMemory)
}

// counted is how far the program in the guest's memory is; 0 where there is none, or where nothing runs.
func (v *modelVM) counted() (n int) {
	v.m.t.Helper()
	if v.memory == "" || v.state != vmOn {
		return 0
	}
	v.m.node.Eventually(2*time.Minute, func() error {
		out, err := v.pod.TryExec(v.m.t.Context(), "cat", "/run/count")
		if err == nil {
			n, err = strconv.Atoi(out)
		}
		return err
	})
	return n
}

// countsOn proves that it goes on beyond what it had counted to.
func (v *modelVM) countsOn(from int) {
	v.m.t.Helper()
	if v.memory == "" || v.state != vmOn {
		return
	}
	if now := v.counted(); now < from {
		v.m.fatalf("%s has counted to %d, and to %d before", v.name, now, from)
	}
	v.m.node.Eventually(time.Minute, func() error {
		if now := v.counted(); now <= from {
			return fmt.Errorf("step %d: %s has counted to %d, as before", len(v.m.trail), v.name, now)
		}
		return nil
	})
}

// booted is a guest that has begun anew.
func (v *modelVM) booted() {
	v.memory, v.wasBoot, v.boot = "", v.boot, ""
}

func (v *modelVM) snapshot() {
	name := free("snap", 5, v.snaps)
	if name == "" {
		name = pick(v, "taken name", v.names())
		v.m.refused("a second snapshot "+name, codes.AlreadyExists, v.take(name, false))
		return
	}
	memory := !v.state.down() && rapid.Bool().Draw(v.m.rt, "memory")
	v.m.tell("%s, memory: %v", name, memory)
	v.m.must("take snapshot "+name, v.take(name, memory), codes.AlreadyExists)
	snap := &modelSnapshot{
		files: maps.Clone(v.files), layer: v.layers.snapshot(), memory: memory, kept: v.memory, boot: v.boot,
		container: v.pod.ContainerID, size: v.size, data: map[string]modelPart{},
	}
	for _, disk := range v.attachedDisks() {
		d := v.disks[disk]
		snap.data[disk] = modelPart{size: d.size, text: d.text, target: d.target, layer: d.layers.snapshot()}
	}
	v.snaps[name] = snap
}

func (v *modelVM) take(name string, memory bool) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		_, err := v.m.node.VMs.CreateSnapshot(ctx, &vmletv1.CreateSnapshotRequest{Vm: v.pod.SandboxID, Name: name, Memory: memory})
		return err
	}
}

func (v *modelVM) restore() {
	name := pick(v, "snapshot", v.names())
	snap := v.snaps[name]
	diskOnly := snap.memory && (v.state.down() || rapid.IntRange(0, 3).Draw(v.m.rt, "disk only") == 0)
	memory := snap.memory && !diskOnly
	v.m.tell("memory: %v", memory)
	restore := func(ctx context.Context) error {
		_, err := v.m.node.VMs.RestoreSnapshot(ctx, &vmletv1.RestoreSnapshotRequest{Vm: v.pod.SandboxID, Name: name, DiskOnly: diskOnly})
		return err
	}
	if memory && (snap.container != v.pod.ContainerID || snap.size != v.size) {
		v.m.refused("restore the memory of another machine, "+name, codes.FailedPrecondition, restore)
		return
	}
	if v.lacks(snap, memory) {
		v.m.refused("restore without its disks, "+name, codes.FailedPrecondition, restore)
		return
	}
	v.m.must("restore "+name, restore)
	v.restored(snap, memory)
}

// lacks says whether a data disk of a snapshot is not there, or for its memory not where it was.
func (v *modelVM) lacks(snap *modelSnapshot, memory bool) bool {
	for name, part := range snap.data {
		if d := v.disks[name]; !d.attached || memory && d.target != part.target {
			return true
		}
	}
	return false
}

// restored is the VM after a restore.
func (v *modelVM) restored(snap *modelSnapshot, memory bool) {
	v.layers.restore(snap.layer)
	v.files = maps.Clone(snap.files)
	for name, part := range snap.data {
		d := v.disks[name]
		d.size, d.text = part.size, part.text
		d.layers.restore(part.layer)
	}
	if v.state.down() {
		return
	}
	v.state = vmOn
	if memory {
		v.memory, v.boot = snap.kept, snap.boot
		v.countsOn(0)
		return
	}
	v.booted()
}

func (v *modelVM) deleteSnapshot() { v.delete(pick(v, "snapshot", v.names())) }

func (v *modelVM) delete(name string) {
	v.m.must("delete snapshot "+name, func(ctx context.Context) error {
		_, err := v.m.node.VMs.DeleteSnapshot(ctx, &vmletv1.DeleteSnapshotRequest{Vm: v.pod.SandboxID, Name: name})
		return err
	}, codes.NotFound)
	gone := v.snaps[name]
	delete(v.snaps, name)
	v.layers.forget(gone.layer)
	for disk, part := range gone.data {
		v.disks[disk].layers.forget(part.layer)
	}
}

func (v *modelVM) canDetachNIC() bool { return len(v.nics) > 0 && v.state != vmPaused }

func (v *modelVM) attachNIC() {
	name := free("eth", 4, v.nics)
	if name == "" {
		return
	}
	v.m.tell("%s", name)
	v.m.must("attach NIC "+name, func(ctx context.Context) error {
		resp, err := v.m.node.VMs.AttachNIC(ctx, &vmletv1.AttachNICRequest{Vm: v.pod.SandboxID, Name: name, Network: "second"})
		if err == nil {
			v.nics[name] = resp.GetNic()
		}
		return err
	})
}

func (v *modelVM) detachNIC() { v.dropNIC(pick(v, "NIC", sortedKeys(v.nics))) }

func (v *modelVM) dropNIC(name string) {
	v.m.must("detach NIC "+name, func(ctx context.Context) error {
		_, err := v.m.node.VMs.DetachNIC(ctx, &vmletv1.DetachNICRequest{Vm: v.pod.SandboxID, Name: name, WaitMs: time.Minute.Milliseconds()})
		return err
	}, codes.NotFound)
	delete(v.nics, name)
}

// attachedDisks are the names of the disks that are attached.
func (v *modelVM) attachedDisks() (names []string) {
	for _, name := range sortedKeys(v.disks) {
		if v.disks[name].attached {
			names = append(names, name)
		}
	}
	return names
}

func (v *modelVM) canWriteDisk() bool  { return v.state == vmOn && len(v.attachedDisks()) > 0 }
func (v *modelVM) canDetachDisk() bool { return v.state != vmPaused && len(v.attachedDisks()) > 0 }

// attachDisk attaches a new disk, or one that was kept.
func (v *modelVM) attachDisk() {
	name := ""
	for _, have := range sortedKeys(v.disks) {
		if !v.disks[have].attached {
			name = have
		}
	}
	if name == "" {
		if name = free("data", 3, v.disks); name == "" {
			return
		}
	}
	v.m.tell("%s", name)
	disk := v.disks[name]
	if disk == nil {
		disk = &modelDisk{size: 4 * mib}
	}
	v.m.must("attach disk "+name, func(ctx context.Context) error {
		_, err := v.m.node.VMs.AttachDisk(ctx, &vmletv1.AttachDiskRequest{
			Vm: v.pod.SandboxID, Name: name, Source: &vmletv1.AttachDiskRequest_SizeBytes{SizeBytes: 4 * mib},
		})
		return err
	})
	disk.attached, disk.target = true, v.freeTarget()
	v.disks[name] = disk
}

// freeTarget is where the next disk that is attached has its place.
func (v *modelVM) freeTarget() string {
	for letter := 'c'; ; letter++ {
		target := "vd" + string(letter)
		if !slices.ContainsFunc(v.attachedDisks(), func(name string) bool { return v.disks[name].target == target }) {
			return target
		}
	}
}

// heldDisk says whether a snapshot has the content of a disk.
func (v *modelVM) heldDisk(name string) bool {
	for _, snap := range v.snaps {
		if _, has := snap.data[name]; has {
			return true
		}
	}
	return false
}

func (v *modelVM) writeDisk() {
	name := pick(v, "disk", v.attachedDisks())
	v.disks[name].text = v.m.fresh()
	v.exec("d=$(" + guestDisk(name) + ") && echo " + v.disks[name].text + " >/dev/$d && sync")
}

func (v *modelVM) resizeDisk() {
	name := pick(v, "disk", v.attachedDisks())
	size := v.disks[name].size + 2*mib
	v.m.must("resize disk "+name, func(ctx context.Context) error {
		_, err := v.m.node.VMs.ResizeDisk(ctx, &vmletv1.ResizeDiskRequest{Vm: v.pod.SandboxID, Name: name, SizeBytes: size})
		return err
	})
	v.disks[name].size = size
}

func (v *modelVM) detachDisk() {
	v.dropDisk(pick(v, "disk", v.attachedDisks()), rapid.Bool().Draw(v.m.rt, "delete"))
}

func (v *modelVM) dropDisk(name string, remove bool) {
	detach := func(ctx context.Context) error {
		_, err := v.m.node.VMs.DetachDisk(ctx, &vmletv1.DetachDiskRequest{Vm: v.pod.SandboxID, Name: name, Delete: remove, WaitMs: time.Minute.Milliseconds()})
		return err
	}
	if remove && v.heldDisk(name) {
		v.m.refused("delete disk "+name, codes.FailedPrecondition, detach)
		return
	}
	v.m.must("detach disk "+name, detach, codes.NotFound)
	if v.disks[name].attached = false; remove {
		delete(v.disks, name)
	}
}

func (v *modelVM) reboot() {
	mode := rapid.SampledFrom([]vmletv1.RebootMode{
		vmletv1.RebootMode_REBOOT_MODE_UNSPECIFIED, vmletv1.RebootMode_REBOOT_MODE_ACPI, vmletv1.RebootMode_REBOOT_MODE_RESET,
	}).Draw(v.m.rt, "mode")
	v.m.tell("%s", mode)
	v.exec("true") // who boots still hears no power button
	v.m.must("reboot", func(ctx context.Context) error {
		_, err := v.m.node.VMs.Reboot(ctx, &vmletv1.RebootRequest{Vm: v.pod.SandboxID, Mode: mode, WaitMs: time.Minute.Milliseconds()})
		return err
	})
	v.booted()
}

func (v *modelVM) pause() {
	v.m.must("pause", func(ctx context.Context) error {
		_, err := v.m.node.VMs.Pause(ctx, &vmletv1.PauseRequest{Vm: v.pod.SandboxID})
		return err
	})
	v.state = vmPaused
}

func (v *modelVM) resume() {
	v.m.must("resume", func(ctx context.Context) error {
		_, err := v.m.node.VMs.Resume(ctx, &vmletv1.ResumeRequest{Vm: v.pod.SandboxID})
		return err
	})
	v.state = vmOn
}

// powerOff has the guest power itself off, and the pod keep its container.
func (v *modelVM) powerOff() {
	v.exec("true") // who boots still hears no power button
	v.m.must("power off", func(ctx context.Context) error {
		_, err := v.m.node.VMs.PowerOff(ctx, &vmletv1.PowerOffRequest{Vm: v.pod.SandboxID, WaitMs: time.Minute.Milliseconds()})
		return err
	})
	v.state = vmHeld
}

func (v *modelVM) powerOn() {
	v.m.must("power on", func(ctx context.Context) error {
		_, err := v.m.node.VMs.PowerOn(ctx, &vmletv1.PowerOnRequest{Vm: v.pod.SandboxID})
		return err
	})
	v.state = vmOn
	v.booted()
}

func (v *modelVM) stop() {
	v.m.must("stop", func(ctx context.Context) error {
		_, err := v.m.node.StopContainer(ctx, &runtimeapi.StopContainerRequest{ContainerId: v.pod.ContainerID, Timeout: 60})
		return err
	})
	v.state = vmOff
}

// start makes the pod's next container, as a kubelet does after one has ended, and another one where libvirtd's end has ended that.
func (v *modelVM) start() {
	for started := false; !started; started = v.startContainer() {
		attempt := v.pod.ContainerAttempt + 1
		config := v.m.node.ContainerConfig(v.spec, attempt)
		v.m.must("create", func(ctx context.Context) error {
			c, err := v.m.node.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{PodSandboxId: v.pod.SandboxID, SandboxConfig: v.pod.Config, Config: config})
			if err == nil {
				v.pod.ContainerID, v.pod.ContainerAttempt = c.GetContainerId(), attempt
			}
			return err
		})
	}
	v.size = v.sizeAtStart()
	v.state = vmOn
	v.booted()
}

// startContainer starts the container that was created, and says whether it runs: a start that fails is a container's end.
func (v *modelVM) startContainer() bool {
	v.m.must("start", func(ctx context.Context) error {
		_, err := v.m.node.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: v.pod.ContainerID})
		return err
	}, codes.FailedPrecondition) // it runs, or has ended
	st := v.pod.Status()
	if st.GetState() == runtimeapi.ContainerState_CONTAINER_EXITED && v.m.disturbed && st.GetReason() == "StartError" {
		v.m.tell("(the start failed)")
		return false
	}
	return true
}
