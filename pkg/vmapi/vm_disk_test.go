// SPDX-License-Identifier: Apache-2.0

package vmapi_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/vmlet/vmlet/pkg/vm"
	"github.com/vmlet/vmlet/pkg/vmapi"
	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// vmDisks keeps what it is asked for.
type vmDisks struct {
	spec   *vm.DataDiskSpec
	detach *vm.DetachRequest
	resize *[2]int64
	disks  []vm.VMDisk
}

func (v vmDisks) AttachDisk(_ context.Context, _, name string, spec vm.DataDiskSpec) (vm.DataDisk, error) {
	*v.spec = spec
	return vm.DataDisk{Name: name, Serial: "s", Target: "vdc", Size: 512}, nil
}

func (v vmDisks) DetachDisk(_ context.Context, _, _ string, req vm.DetachRequest) error {
	*v.detach = req
	return nil
}

func (v vmDisks) ResizeDisk(_ context.Context, _, _ string, size int64, grow bool) (vm.DiskResized, error) {
	*v.resize = [2]int64{size, 0}
	if grow {
		v.resize[1] = 1
	}
	return vm.DiskResized{Before: 1, Size: 2, FileSystem: vm.GrowthFailed, Detail: "why"}, nil
}

func (v vmDisks) VMDisks(context.Context, string) ([]vm.VMDisk, error) { return v.disks, nil }

func diskClient(t *testing.T) (vmletv1.VMServiceClient, vmDisks) {
	t.Helper()
	v := vmDisks{new(vm.DataDiskSpec), new(vm.DetachRequest), new([2]int64), []vm.VMDisk{
		{
			Name: "root", Root: true, State: vm.DataDiskAttached, Size: 4, Allocated: 3, Bus: vm.BusVirtio, Target: "vda", Serial: "root", Own: true,
			Layers: []vm.DiskLayer{{Path: "/a", Format: vm.FormatQCOW2, Allocated: 3}, {Path: "/b", Format: vm.FormatRaw, Allocated: 9, Shared: true}},
		},
		{Name: "seed", Seed: true, State: vm.DataDiskAttached, ReadOnly: true},
		{Name: "x", State: vm.DataDiskDetaching, Bus: vm.BusSCSI, Problem: "gone"},
	}}
	return vmletv1.NewVMServiceClient(connect(t, vmapi.Deps{VMs: vms{vmDisks: v}})), v
}

func TestADiskIsAskedForAsItIsTold(t *testing.T) {
	client, v := diskClient(t)
	got, err := client.AttachDisk(t.Context(), &vmletv1.AttachDiskRequest{
		Vm: "a", Name: "x", Source: &vmletv1.AttachDiskRequest_Path{Path: "/x"}, Format: vmletv1.DiskFormat_DISK_FORMAT_RAW,
		Bus: vmletv1.DiskBus_DISK_BUS_SCSI, Serial: "s", ReadOnly: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&vmletv1.AttachDiskResponse{Serial: "s", Target: "vdc", SizeBytes: 512}, got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	if want := (vm.DataDiskSpec{Path: "/x", Format: vm.FormatRaw, Bus: vm.BusSCSI, Serial: "s", ReadOnly: true}); *v.spec != want {
		t.Errorf("became %+v", *v.spec)
	}
	if _, err := client.AttachDisk(t.Context(), &vmletv1.AttachDiskRequest{Vm: "a", Name: "x", Source: &vmletv1.AttachDiskRequest_SizeBytes{SizeBytes: 7}}); err != nil {
		t.Fatal(err)
	}
	if *v.spec != (vm.DataDiskSpec{Size: 7}) {
		t.Errorf("became %+v", *v.spec)
	}
	for _, req := range []*vmletv1.AttachDiskRequest{{Name: "x"}, {Vm: "a", Format: 99}, {Vm: "a", Bus: 99}} {
		if _, err := client.AttachDisk(t.Context(), req); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%v: %v", req, err)
		}
	}
}

func TestADetachIsTold(t *testing.T) {
	client, v := diskClient(t)
	if _, err := client.DetachDisk(t.Context(), &vmletv1.DetachDiskRequest{Vm: "a", Name: "x", Delete: true, WaitMs: 1500}); err != nil {
		t.Fatal(err)
	}
	if *v.detach != (vm.DetachRequest{Delete: true, Wait: 1500 * time.Millisecond}) {
		t.Errorf("became %+v", *v.detach)
	}
	for _, req := range []*vmletv1.DetachDiskRequest{{Name: "x"}, {Vm: "a"}, {Vm: "a", Name: "x", WaitMs: -1}, {Vm: "a", Name: "x", WaitMs: 180001}} {
		if _, err := client.DetachDisk(t.Context(), req); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%v: %v", req, err)
		}
	}
}

func TestAResizeIsTold(t *testing.T) {
	client, v := diskClient(t)
	got, err := client.ResizeDisk(t.Context(), &vmletv1.ResizeDiskRequest{Vm: "a", Name: "root", SizeBytes: 9, GrowFileSystem: true})
	if err != nil {
		t.Fatal(err)
	}
	want := &vmletv1.ResizeDiskResponse{SizeBytesBefore: 1, SizeBytes: 2, FileSystem: vmletv1.FileSystemGrowth_FILE_SYSTEM_GROWTH_FAILED, FileSystemDetail: "why"}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" || *v.resize != [2]int64{9, 1} {
		t.Errorf("asked for %v, %s", *v.resize, diff)
	}
	for _, req := range []*vmletv1.ResizeDiskRequest{{Name: "x"}, {Vm: "a"}} {
		if _, err := client.ResizeDisk(t.Context(), req); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%v: %v", req, err)
		}
	}
}

func TestTheDisksOfAVMAreToldWhole(t *testing.T) {
	client, _ := diskClient(t)
	got, err := client.ListVMDisks(t.Context(), &vmletv1.ListVMDisksRequest{Vm: "a"})
	if err != nil {
		t.Fatal(err)
	}
	want := &vmletv1.ListVMDisksResponse{Disks: []*vmletv1.VMDisk{
		{
			Name: "root", Role: vmletv1.VMDiskRole_VM_DISK_ROLE_ROOT, State: vmletv1.VMDiskState_VM_DISK_STATE_ATTACHED, SizeBytes: 4, AllocatedBytes: 3,
			Bus: vmletv1.DiskBus_DISK_BUS_VIRTIO, Target: "vda", Serial: "root", Owned: true, Layers: []*vmletv1.DiskLayer{
				{Path: "/a", Format: vmletv1.DiskFormat_DISK_FORMAT_QCOW2, AllocatedBytes: 3},
				{Path: "/b", Format: vmletv1.DiskFormat_DISK_FORMAT_RAW, AllocatedBytes: 9, Shared: true},
			},
		},
		{Name: "seed", Role: vmletv1.VMDiskRole_VM_DISK_ROLE_SEED, State: vmletv1.VMDiskState_VM_DISK_STATE_ATTACHED, ReadOnly: true},
		{
			Name: "x", Role: vmletv1.VMDiskRole_VM_DISK_ROLE_DATA, State: vmletv1.VMDiskState_VM_DISK_STATE_DETACHING,
			Bus: vmletv1.DiskBus_DISK_BUS_SCSI, Problem: "gone",
		},
	}}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	if _, err := client.ListVMDisks(t.Context(), &vmletv1.ListVMDisksRequest{}); status.Code(err) != codes.InvalidArgument {
		t.Error(err)
	}
}
