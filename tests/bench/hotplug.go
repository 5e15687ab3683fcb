// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/vmlet/vmlet/pkg/vm"
	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
	"github.com/vmlet/vmlet/tests/harness"
)

// diskSize is that of the disks that are attached.
const diskSize = 64 * vm.MiB

// nics attaches and detaches a NIC. The guest has no vmlet-agent: it gets the device and no more, as from bare libvirt.
func nics(t *testing.T, n int) outcome {
	node := startNode(t)
	f, v := rivalsOf(t, node, harness.Pod{Image: node.PullQGAImage(), Annotations: map[string]string{"vmlet.io/guest-agent": "qga"}})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	bare, p := bothReady(ctx, t, f, v)
	var attach, detach, bareAttach, bareDetach samples
	for range n {
		// What a detachment leaves to the kernel holds up the next attachment, whosoever it is.
		pause(settleTime)
		begin := time.Now()
		nic, err := f.attachNIC(ctx, bare)
		must(t, err)
		bareAttach.add(time.Since(begin))
		pause(settleTime)
		begin = time.Now()
		must(t, f.detachNIC(ctx, bare, nic))
		bareDetach.add(time.Since(begin))

		pause(settleTime)
		begin = time.Now()
		_, err = node.VMs.AttachNIC(ctx, &vmletv1.AttachNICRequest{Vm: p.sandbox, Name: "eth1"})
		must(t, err)
		attach.add(time.Since(begin))
		pause(settleTime)
		begin = time.Now()
		_, err = node.VMs.DetachNIC(ctx, &vmletv1.DetachNICRequest{Vm: p.sandbox, Name: "eth1"})
		must(t, err)
		detach.add(time.Since(begin))
	}
	bothGone(ctx, t, f, v, bare, p)
	return outcome{results: []Result{newResult("nic_attach", unitMS, attach, bareAttach), newResult("nic_detach", unitMS, detach, bareDetach)}}
}

// disks attaches a new disk to a guest with vmlet-agent, and a NIC until that has given it its addresses there: which libvirt does not.
func disks(t *testing.T, n int) outcome {
	f, v := rivals(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	bare, p := bothReady(ctx, t, f, v)
	var disk, bareDisk, nic samples
	for i := range n {
		name := fmt.Sprintf("data%d", i)
		begin := time.Now()
		plugged, err := f.attachDisk(ctx, bare, name)
		must(t, err)
		bareDisk.add(time.Since(begin))
		pause(settleTime)
		must(t, f.detachDisk(ctx, bare, plugged))

		begin = time.Now()
		_, err = v.node.VMs.AttachDisk(ctx, &vmletv1.AttachDiskRequest{
			Vm: p.sandbox, Name: name, Source: &vmletv1.AttachDiskRequest_SizeBytes{SizeBytes: diskSize},
		})
		must(t, err)
		disk.add(time.Since(begin))
		pause(settleTime)
		_, err = v.node.VMs.DetachDisk(ctx, &vmletv1.DetachDiskRequest{Vm: p.sandbox, Name: name, Delete: true})
		must(t, err)

		begin = time.Now()
		got, err := v.node.VMs.AttachNIC(ctx, &vmletv1.AttachNICRequest{Vm: p.sandbox, Name: "eth1"})
		must(t, err)
		nic.add(time.Since(begin))
		if got.GetGuest() != vmletv1.NICGuestState_NIC_GUEST_STATE_CONFIGURED {
			t.Fatalf("in the guest: %v", got)
		}
		_, err = v.node.VMs.DetachNIC(ctx, &vmletv1.DetachNICRequest{Vm: p.sandbox, Name: "eth1"})
		must(t, err)
	}
	bothGone(ctx, t, f, v, bare, p)
	return outcome{results: []Result{newResult("disk_attach", unitMS, disk, bareDisk), newResult("nic_attach_configured", unitMS, nic, nil)}}
}

// vcpuPlaces is how many CPUs the machines of vcpus can have. One is added to each: QEMU 7.2 ends on an assertion when one is plugged
// while its translation cache is full, and vmlet waits until it is not.
const vcpuPlaces = 8

// vcpus adds a CPU to a guest, for now and for its next boot.
func vcpus(t *testing.T, n int) outcome {
	f, v := rivalsOf(t, startNode(t), harness.Pod{
		Image: harness.TinyImage(), Annotations: map[string]string{"vmlet.io/max-vcpus": strconv.Itoa(vcpuPlaces)},
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	var add, bareAdd samples
	for range n {
		bare, p := bothReady(ctx, t, f, v)
		begin := time.Now()
		must(t, f.addVCPU(bare))
		bareAdd.add(time.Since(begin))
		pause(settleTime)
		begin = time.Now()
		got, err := v.node.VMs.Resize(ctx, &vmletv1.ResizeRequest{Vm: p.sandbox, Cpus: 2})
		must(t, err)
		add.add(time.Since(begin))
		if got.GetCpus().GetOutcome() != vmletv1.ResizeOutcome_RESIZE_OUTCOME_APPLIED {
			t.Fatalf("it has %v", got.GetCpus())
		}
		bothGone(ctx, t, f, v, bare, p)
	}
	return outcome{results: []Result{newResult("vcpu_add", unitMS, add, bareAdd)}}
}

// bothReady starts a pod on each side, and waits until their guests are ready.
func bothReady(ctx context.Context, t *testing.T, f *floor, v vmlet) (*floorPod, vmletPod) {
	t.Helper()
	bare, err := f.start(ctx)
	must(t, err)
	p, err := v.start(ctx, "hotplug")
	must(t, err)
	must(t, awaitReady(ctx, f.console(bare.id)))
	must(t, awaitReady(ctx, v.logOf(p)))
	return bare, p
}

func bothGone(ctx context.Context, t *testing.T, f *floor, v vmlet, bare *floorPod, p vmletPod) {
	t.Helper()
	must(t, bare.domain.Destroy())
	must(t, f.remove(ctx, bare))
	must(t, v.remove(ctx, p))
}
