// SPDX-License-Identifier: Apache-2.0

package vmapi_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/vmlet/vmlet/pkg/vm"
	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

func (v vms) PowerOff(_ context.Context, ref string, req vm.PowerOffRequest) (vm.PoweredOff, error) {
	*v.asked = append(*v.asked, fmt.Sprintf("off %s %s %s", ref, req.Mode, req.Wait))
	return vm.PoweredOff{Policy: vm.PowerOffExits, Forced: true}, nil
}

func (v vms) PowerOn(_ context.Context, ref string, req vm.PowerOnRequest) error {
	*v.asked = append(*v.asked, fmt.Sprintf("on %s %t", ref, req.Paused))
	return nil
}

func TestPowerIsTold(t *testing.T) {
	client, v := vmClient(t)
	for theirs, ours := range map[vmletv1.PowerOffMode]vm.PowerOffMode{
		vmletv1.PowerOffMode_POWER_OFF_MODE_UNSPECIFIED: vm.PowerOffGuest, vmletv1.PowerOffMode_POWER_OFF_MODE_GUEST: vm.PowerOffGuest,
		vmletv1.PowerOffMode_POWER_OFF_MODE_GUEST_THEN_FORCE: vm.PowerOffGuestThenForce, vmletv1.PowerOffMode_POWER_OFF_MODE_FORCE: vm.PowerOffForce,
	} {
		*v.asked = nil
		got, err := client.PowerOff(t.Context(), &vmletv1.PowerOffRequest{Vm: "shop/db", Mode: theirs, WaitMs: 1500})
		if err != nil {
			t.Fatal(err)
		}
		want := &vmletv1.PowerOffResponse{Policy: vmletv1.PowerOffPolicy_POWER_OFF_POLICY_EXITS, Forced: true}
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{fmt.Sprintf("off shop/db %s %s", ours, 1500*time.Millisecond)}, *v.asked); diff != "" {
			t.Error(diff)
		}
	}
	*v.asked = nil
	for _, req := range []*vmletv1.PowerOffRequest{{}, {Vm: "a", Mode: 99}, {Vm: "a", WaitMs: -1}} {
		if _, err := client.PowerOff(t.Context(), req); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%v: %v", req, err)
		}
	}
	if _, err := client.PowerOn(t.Context(), &vmletv1.PowerOnRequest{}); status.Code(err) != codes.InvalidArgument {
		t.Error(err)
	}
	for _, paused := range []bool{false, true} {
		if _, err := client.PowerOn(t.Context(), &vmletv1.PowerOnRequest{Vm: "a", Paused: paused}); err != nil {
			t.Error(err)
		}
	}
	if diff := cmp.Diff([]string{"on a false", "on a true"}, *v.asked); diff != "" {
		t.Error(diff)
	}
}
