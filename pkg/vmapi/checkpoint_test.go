// SPDX-License-Identifier: Apache-2.0

package vmapi_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/vmlet/vmlet/pkg/vm"
	"github.com/vmlet/vmlet/pkg/vmapi"
	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

type checkpoints struct{ asked *[]string }

func (c checkpoints) Checkpoint(ctx context.Context, ref, dir string) (vm.Checkpoint, error) {
	*c.asked = append(*c.asked, ref+" into "+dir)
	return c.CheckpointIn(ctx, dir)
}

func (c checkpoints) DetachCheckpoint(_ context.Context, ref, dir string) (vm.OperationInfo, error) {
	*c.asked = append(*c.asked, ref+" begun into "+dir)
	return vm.OperationInfo{Operation: vm.Operation{ID: "o", Kind: vm.OperationCheckpoint, Subject: dir, State: vm.OperationRunning}}, nil
}

func (checkpoints) CheckpointIn(context.Context, string) (vm.Checkpoint, error) {
	return vm.Checkpoint{
		ID: "k", SandboxID: "s", Paused: 42 * time.Millisecond, CreatedAt: time.Unix(7, 0), Sandbox: vm.SandboxSpec{Namespace: "n", Name: "p"},
		DataDisks: []vm.DataDisk{{Name: "data", Target: "vdc"}, {Name: "iso", Target: "vdd", Spec: vm.DataDiskSpec{Path: "/iso"}}},
		Files: []vm.CheckpointFile{
			{Name: vm.CheckpointDisk, Size: 1}, {Name: vm.CheckpointMemory, Size: 2}, {Name: vm.CheckpointData("vdc"), Size: 4},
		},
	}, nil
}

func (c checkpoints) RestoreCheckpoint(_ context.Context, dir string) (vm.Checkpoint, vm.RestoredPod, error) {
	*c.asked = append(*c.asked, "from "+dir)
	return vm.Checkpoint{Sandbox: vm.SandboxSpec{Namespace: "n", Name: "p"}}, vm.RestoredPod{SandboxID: "s2", ContainerID: "c2"}, nil
}

func TestCheckpointsAreTold(t *testing.T) {
	var asked []string
	client := vmletv1.NewCheckpointServiceClient(connect(t, vmapi.Deps{Checkpoints: checkpoints{&asked}}))
	for _, req := range []*vmletv1.CreateCheckpointRequest{{}, {Vm: "a"}, {Path: "/d"}, {Vm: "a", Path: "d"}} {
		if _, err := client.CreateCheckpoint(t.Context(), req); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%v: %v", req, err)
		}
	}
	if _, err := client.RestoreCheckpoint(t.Context(), &vmletv1.RestoreCheckpointRequest{Path: "d"}); status.Code(err) != codes.InvalidArgument {
		t.Error(err)
	}
	made, err := client.CreateCheckpoint(t.Context(), &vmletv1.CreateCheckpointRequest{Vm: "a", Path: "/d/"})
	if err != nil || made.GetCheckpointId() != "k" || made.GetPodSandboxId() != "s" || made.GetDiskBytes() != 5 || !slices.Equal(made.GetDataDisks(), []string{"data"}) || made.GetMemoryBytes() != 2 || made.GetPauseMs() != 42 {
		t.Errorf("got %v, %v", made, err)
	}
	there, err := client.GetCheckpoint(t.Context(), &vmletv1.GetCheckpointRequest{Path: "/d"})
	if err != nil || there.GetCheckpointId() != "k" || there.GetPodNamespace() != "n" || there.GetPodName() != "p" || there.GetCreatedAt() != 7e9 ||
		there.GetDiskBytes() != 5 || there.GetMemoryBytes() != 2 || there.GetPauseMs() != 42 || !slices.Equal(there.GetDataDisks(), []string{"data"}) {
		t.Errorf("got %v, %v", there, err)
	}
	if _, err := client.GetCheckpoint(t.Context(), &vmletv1.GetCheckpointRequest{Path: "d"}); status.Code(err) != codes.InvalidArgument {
		t.Error(err)
	}
	begun, err := client.CreateCheckpoint(t.Context(), &vmletv1.CreateCheckpointRequest{Vm: "a", Path: "/e/", Detach: true})
	if o := begun.GetOperation(); err != nil || o.GetId() != "o" || o.GetKind() != "checkpoint-create" || o.GetSubject() != "/e" || begun.GetCheckpointId() != "" {
		t.Errorf("got %v, %v", begun, err)
	}
	back, err := client.RestoreCheckpoint(t.Context(), &vmletv1.RestoreCheckpointRequest{Path: "/d"})
	if err != nil || back.GetPodNamespace() != "n" || back.GetPodName() != "p" || back.GetPodSandboxId() != "s2" || back.GetContainerId() != "c2" {
		t.Errorf("got %v, %v", back, err)
	}
	if !slices.Equal(asked, []string{"a into /d", "a begun into /e", "from /d"}) {
		t.Errorf("asked for %q", asked)
	}
}
