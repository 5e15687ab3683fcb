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

// vmSizes keeps what it is asked for.
type vmSizes struct{ asked *vm.ResizeRequest }

func (v vmSizes) Resize(_ context.Context, _ string, req vm.ResizeRequest) (vm.Resized, error) {
	*v.asked = req
	return vm.Resized{
		GuestCPUs:  4,
		CPUs:       vm.ResizedNumber{Before: 4, After: 2, Requested: 2, Outcome: vm.ResizeApplied, Detail: "by a quota"},
		Memory:     vm.ResizedNumber{Before: 9, After: 7, Requested: 5, Outcome: vm.ResizePartly, Detail: "why"},
		CpusetCPUs: vm.ResizedSet{Before: "0", After: "0", Requested: "1", Outcome: vm.ResizeNextMachine},
	}, nil
}

func TestResize(t *testing.T) {
	v := vmSizes{new(vm.ResizeRequest)}
	client := vmletv1.NewVMServiceClient(connect(t, vmapi.Deps{VMs: vms{vmSizes: v}}))
	got, err := client.Resize(t.Context(), &vmletv1.ResizeRequest{
		Vm: "a", Cpus: 2, MemoryBytes: 5, CpusetCpus: "1", CpusetMems: "0", CpuShares: 3, WaitMs: 1500,
	})
	if err != nil {
		t.Fatal(err)
	}
	want := &vmletv1.ResizeResponse{
		GuestCpus:   4,
		Cpus:        &vmletv1.ResizedNumber{Before: 4, After: 2, Requested: 2, Outcome: vmletv1.ResizeOutcome_RESIZE_OUTCOME_APPLIED, Detail: "by a quota"},
		MemoryBytes: &vmletv1.ResizedNumber{Before: 9, After: 7, Requested: 5, Outcome: vmletv1.ResizeOutcome_RESIZE_OUTCOME_PARTLY, Detail: "why"},
		CpusetCpus:  &vmletv1.ResizedSet{Before: "0", After: "0", Requested: "1", Outcome: vmletv1.ResizeOutcome_RESIZE_OUTCOME_NEXT_MACHINE},
		CpusetMems:  &vmletv1.ResizedSet{}, CpuShares: &vmletv1.ResizedNumber{},
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	asked := vm.ResizeRequest{SizeAsk: vm.SizeAsk{VCPUs: 2, Memory: 5, CpusetCPUs: "1", CpusetMems: "0", CPUShares: 3}, Wait: 1500 * time.Millisecond}
	if *v.asked != asked {
		t.Errorf("asked for %+v, want %+v", *v.asked, asked)
	}
	for _, req := range []*vmletv1.ResizeRequest{{Cpus: 1}, {Vm: "a", WaitMs: -1}, {Vm: "a", WaitMs: 120001}} {
		if _, err := client.Resize(t.Context(), req); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%v: %v", req, err)
		}
	}
}
