// SPDX-License-Identifier: Apache-2.0

package vmapi_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/vmlet/vmlet/pkg/vm"
	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

func (v vms) Watch(_ context.Context, ref, token string, send func(vm.WatchMessage) error) error {
	*v.asked = append(*v.asked, "watch "+ref+" since "+token)
	if token == "lost" {
		return errdefs.ErrOutOfRange
	}
	at := time.Unix(0, 42)
	return errors.Join(
		send(vm.WatchMessage{Present: &vm.VMStatus{
			SandboxID: "s", Namespace: "shop", Pod: "db", ContainerID: "c", State: vm.VMRunning, Rebooting: true, BootID: "b",
			Answering: true, QGA: true,
		}}),
		send(vm.WatchMessage{Present: &vm.VMStatus{SandboxID: "t", State: vm.VMExited, Exit: &vm.Exit{Code: 7, Reason: "Error", Message: "why"}}}),
		send(vm.WatchMessage{Token: "t1"}),
		send(vm.WatchMessage{Token: "t2", Event: &vm.VMEvent{
			SandboxID: "s", Namespace: "shop", Pod: "db", ContainerID: "c", Kind: vm.NICAttachedEvent, Subject: "eth1", Reason: "up",
			Message: "m", ExitCode: 3, Agent: vm.AgentVMlet, BootID: "b", At: at,
		}}),
	)
}

func (v vms) Capabilities(ref string) ([]vm.Capability, error) {
	*v.asked = append(*v.asked, "capabilities "+ref)
	return []vm.Capability{{Name: "a", Available: true}, {Name: "b", WhyNot: "no b here"}}, nil
}

func TestAWatchIsTold(t *testing.T) {
	client, v := vmClient(t)
	stream, err := client.Watch(t.Context(), &vmletv1.WatchRequest{Vm: "shop/db", SinceToken: "t0"})
	if err != nil {
		t.Fatal(err)
	}
	var got []*vmletv1.WatchResponse
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, m)
	}
	want := []*vmletv1.WatchResponse{
		{Message: &vmletv1.WatchResponse_Present{Present: &vmletv1.VMStatus{
			PodSandboxId: "s", Namespace: "shop", Pod: "db", ContainerId: "c", State: vmletv1.VMState_VM_STATE_RUNNING, Rebooting: true,
			Agents: []string{"vmlet-agent", "qemu-guest-agent"}, BootId: "b",
		}}},
		{Message: &vmletv1.WatchResponse_Present{Present: &vmletv1.VMStatus{
			PodSandboxId: "t", State: vmletv1.VMState_VM_STATE_EXITED, ExitCode: 7, Reason: "Error", Message: "why",
		}}},
		{Token: "t1", Message: &vmletv1.WatchResponse_Synced{Synced: &vmletv1.WatchSynced{}}},
		{Token: "t2", Message: &vmletv1.WatchResponse_Event{Event: &vmletv1.VMEvent{
			Kind: "nic-attached", PodSandboxId: "s", Namespace: "shop", Pod: "db", ContainerId: "c", At: 42, Subject: "eth1", Reason: "up",
			Message: "m", ExitCode: 3, Agent: "vmlet-agent", BootId: "b",
		}}},
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	lost, err := client.Watch(t.Context(), &vmletv1.WatchRequest{SinceToken: "lost"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lost.Recv(); status.Code(err) != codes.OutOfRange {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"watch shop/db since t0", "watch  since lost"}, *v.asked); diff != "" {
		t.Error(diff)
	}
}

func TestCapabilitiesAreTold(t *testing.T) {
	client, v := vmClient(t)
	got, err := client.Capabilities(t.Context(), &vmletv1.CapabilitiesRequest{Vm: "x"})
	if err != nil {
		t.Fatal(err)
	}
	want := &vmletv1.CapabilitiesResponse{Capabilities: []*vmletv1.Capability{{Name: "a", Available: true}, {Name: "b", WhyNot: "no b here"}}}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"capabilities x"}, *v.asked); diff != "" {
		t.Error(diff)
	}
}
