// SPDX-License-Identifier: Apache-2.0

package vmapi_test

import (
	"context"
	"io"
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

// vms keeps what it is asked for.
type vms struct {
	vmDisks
	vmSizes

	asked *[]string
	last  *vm.RebootRequest

	inside  *inside
	console func(ctx context.Context, req vm.ConsoleRequest, client vm.ConsoleClient) (vm.Exit, error)
	vnc     func(opened func() error, client io.ReadWriter) error
}

func (v vms) Reboot(_ context.Context, ref string, req vm.RebootRequest) (vm.Rebooted, error) {
	*v.asked, *v.last = append(*v.asked, "reboot "+ref), req
	return vm.Rebooted{Mode: vm.RebootACPI, Was: "old", Boot: "new"}, nil
}

func (v vms) Pause(_ context.Context, ref string) error {
	*v.asked = append(*v.asked, "pause "+ref)
	return nil
}

func (v vms) Resume(_ context.Context, ref string) error {
	*v.asked = append(*v.asked, "resume "+ref)
	return nil
}

func vmClient(t *testing.T) (vmletv1.VMServiceClient, vms) {
	t.Helper()
	v := vms{asked: new([]string), last: new(vm.RebootRequest), inside: new(inside)}
	return vmletv1.NewVMServiceClient(connect(t, vmapi.Deps{VMs: v})), v
}

func TestRebootIsTold(t *testing.T) {
	client, v := vmClient(t)
	for theirs, ours := range map[vmletv1.RebootMode]vm.RebootMode{
		vmletv1.RebootMode_REBOOT_MODE_UNSPECIFIED: vm.RebootAny, vmletv1.RebootMode_REBOOT_MODE_AGENT: vm.RebootAgent,
		vmletv1.RebootMode_REBOOT_MODE_ACPI: vm.RebootACPI, vmletv1.RebootMode_REBOOT_MODE_RESET: vm.RebootReset,
	} {
		got, err := client.Reboot(t.Context(), &vmletv1.RebootRequest{Vm: "shop/db", Mode: theirs, DelayMs: 1500, WaitMs: 2})
		if err != nil {
			t.Fatal(err)
		}
		want := &vmletv1.RebootResponse{Mode: vmletv1.RebootMode_REBOOT_MODE_ACPI, BootIdBefore: "old", BootId: "new"}
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Error(diff)
		}
		if *v.last != (vm.RebootRequest{Mode: ours, Delay: 1500 * time.Millisecond, Wait: 2 * time.Millisecond}) {
			t.Errorf("%s became %+v", theirs, *v.last)
		}
	}
	for _, req := range []*vmletv1.RebootRequest{
		{}, {Vm: "a", Mode: 99}, {Vm: "a", DelayMs: -1}, {Vm: "a", WaitMs: -1}, {Vm: "a", DelayMs: 1 << 62},
	} {
		if _, err := client.Reboot(t.Context(), req); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%v: %v", req, err)
		}
	}
}

func TestPauseAndResumeNameTheirVM(t *testing.T) {
	client, v := vmClient(t)
	if _, err := client.Pause(t.Context(), &vmletv1.PauseRequest{}); status.Code(err) != codes.InvalidArgument {
		t.Error(err)
	}
	if _, err := client.Resume(t.Context(), &vmletv1.ResumeRequest{}); status.Code(err) != codes.InvalidArgument {
		t.Error(err)
	}
	if _, err := client.Pause(t.Context(), &vmletv1.PauseRequest{Vm: "a"}); err != nil {
		t.Error(err)
	}
	if _, err := client.Resume(t.Context(), &vmletv1.ResumeRequest{Vm: "b"}); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"pause a", "resume b"}, *v.asked); diff != "" {
		t.Error(diff)
	}
}
