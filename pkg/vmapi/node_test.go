// SPDX-License-Identifier: Apache-2.0

package vmapi_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/vmlet/vmlet/pkg/version"
	"github.com/vmlet/vmlet/pkg/vm"
	"github.com/vmlet/vmlet/pkg/vmapi"
	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

func TestDoctorTellsEveryFindingInOrder(t *testing.T) {
	client := vmletv1.NewNodeServiceClient(connect(t, vmapi.Deps{Doctor: doctor{
		{Name: "libvirt", Level: vm.CheckFail, Summary: "does not answer", Mend: "start it"},
		{Name: "kvm-device", Level: vm.CheckWarn, Summary: "absent", Mend: "load kvm_intel"},
		{Name: "cni", Level: vm.CheckOK, Summary: "bridge"},
		{Name: "moon", Level: "blue"},
	}}))
	got, err := client.Doctor(t.Context(), &vmletv1.DoctorRequest{})
	if err != nil {
		t.Fatal(err)
	}
	want := &vmletv1.DoctorResponse{Checks: []*vmletv1.Check{
		{Name: "libvirt", Level: vmletv1.CheckLevel_CHECK_LEVEL_FAIL, Summary: "does not answer", Mend: "start it"},
		{Name: "kvm-device", Level: vmletv1.CheckLevel_CHECK_LEVEL_WARN, Summary: "absent", Mend: "load kvm_intel"},
		{Name: "cni", Level: vmletv1.CheckLevel_CHECK_LEVEL_OK, Summary: "bridge"},
		{Name: "moon", Level: vmletv1.CheckLevel_CHECK_LEVEL_UNSPECIFIED},
	}}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

func TestVersionAnswersWithoutLibvirt(t *testing.T) {
	for title, tc := range map[string]struct {
		versions hypervisor
		accel    vm.Accel
		want     *vmletv1.VersionResponse
	}{
		"libvirt answers": {
			versions: func(context.Context) (libvirt, qemu string, err error) { return "9.0.0", "7.2.19", nil },
			accel:    vm.AccelTCG,
			want: &vmletv1.VersionResponse{
				LibvirtVersion: "9.0.0", QemuVersion: "7.2.19", Accelerator: vmletv1.Accelerator_ACCELERATOR_TCG,
			},
		},
		"libvirt is away": {
			versions: func(context.Context) (libvirt, qemu string, err error) {
				return "9.0.0", "", errors.New("connection refused")
			},
			accel: vm.AccelKVM,
			want: &vmletv1.VersionResponse{
				LibvirtError: "connection refused", Accelerator: vmletv1.Accelerator_ACCELERATOR_KVM,
			},
		},
	} {
		t.Run(title, func(t *testing.T) {
			client := vmletv1.NewNodeServiceClient(connect(t, vmapi.Deps{Hypervisor: tc.versions, Accel: func() vm.Accel { return tc.accel }}))
			got, err := client.Version(t.Context(), &vmletv1.VersionRequest{})
			if err != nil {
				t.Fatal(err)
			}
			tc.want.Version, tc.want.Commit = version.Version, version.Commit
			if diff := cmp.Diff(tc.want, got, protocmp.Transform()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLibvirtIsWaitedForNoLongerThanSeconds(t *testing.T) {
	client := vmletv1.NewNodeServiceClient(connect(t, vmapi.Deps{
		Accel: func() vm.Accel { return vm.AccelTCG },
		Hypervisor: hypervisor(func(ctx context.Context) (libvirt, qemu string, err error) {
			if _, bounded := ctx.Deadline(); !bounded {
				t.Error("no deadline")
			}
			return "", "", context.DeadlineExceeded
		}),
	}))
	if _, err := client.Version(t.Context(), &vmletv1.VersionRequest{}); err != nil {
		t.Fatal(err)
	}
}

func TestWhatNeedsNoSandboxIsServedWhileStarting(t *testing.T) {
	want := []string{"/vmlet.v1.NodeService/Doctor", "/vmlet.v1.NodeService/Version"}
	if got := vmapi.AlwaysServed(); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}
