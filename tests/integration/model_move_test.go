// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"context"
	"os"
	"path/filepath"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/tests/harness"
)

// checkpointable says whether a checkpoint of the VM as it is can be taken.
func (v *modelVM) checkpointable() bool {
	return !v.state.down()
}

// movable says whether it is restored in another sandbox, too: with nothing but what the pod itself has, and data disks.
// TestCheckpointsOfAWholeVM has the rest.
func (v *modelVM) movable() bool {
	return v.checkpointable() && v.state == vmOn && len(v.nics) == 0 && !v.resized()
}

// checkpoint writes the VM into a folder, or is refused. The guest goes on either way.
func (v *modelVM) checkpoint() {
	dir := filepath.Join(v.m.checkpoints.dir, v.m.fresh())
	if !v.checkpointable() {
		v.m.refused("checkpoint", codes.FailedPrecondition, v.writeTo(dir))
		v.noCheckpoint()
		return
	}
	counted := v.counted()
	v.m.must("checkpoint", v.writeTo(dir), codes.AlreadyExists)
	v.dropCheckpoint(dir)
	v.countsOn(counted)
}

// move takes the VM into another sandbox by a checkpoint: its guest goes on there, and what was its sandbox's is gone.
func (v *modelVM) move() {
	dir := filepath.Join(v.m.checkpoints.dir, v.m.fresh())
	counted := v.counted()
	v.m.must("checkpoint", v.writeTo(dir), codes.AlreadyExists)
	v.exec("mkdir -p /model && echo later >/model/later && sync; echo later >/run/model") // which is not in it
	disks := map[string]*modelDisk{}
	for _, name := range v.attachedDisks() { // those that were detached and kept are not in it either
		v.exec("d=$(" + guestDisk(name) + ") && echo later >/dev/$d && sync")
		disks[name] = v.disks[name]
		disks[name].layers = layerTree{}
	}
	for started := false; !started; started = v.startContainer() {
		v.m.must("remove", func(ctx context.Context) error {
			_, err := v.m.node.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: v.pod.SandboxID})
			return err
		})
		v.m.must("restore", func(ctx context.Context) error {
			pod, err := v.m.checkpoints.restoreAgain(ctx, v.spec, dir)
			if err == nil {
				v.in(pod)
			}
			return err
		})
	}
	v.disks = disks
	v.dropCheckpoint(dir)
	v.countsOn(counted)
}

func (v *modelVM) writeTo(dir string) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		_, err := v.m.node.CheckpointPod(ctx, &runtimeapi.CheckpointPodRequest{
			PodSandboxId: v.pod.SandboxID, OutputPath: dir, ContainerIds: []string{v.pod.ContainerID},
		})
		return err
	}
}

func (v *modelVM) dropCheckpoint(dir string) {
	v.m.t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		v.m.fatalf("%v", err)
	}
	v.noCheckpoint()
}

// noCheckpoint proves that nothing of one is left.
func (v *modelVM) noCheckpoint() {
	v.m.t.Helper()
	if files := v.m.checkpoints.holds(); len(files) > 0 {
		v.m.fatalf("left of checkpoints are %v", files)
	}
}

// restoreAgain restores a pod where an earlier call may have done so, and nobody was told. What that has left in pieces, since
// libvirt was away when it was to be undone, is removed as a kubelet would, and the call is to be made once more.
func (n checkpointing) restoreAgain(ctx context.Context, p harness.Pod, dir string) (*harness.Running, error) {
	resp, err := n.RestorePod(ctx, &runtimeapi.RestorePodRequest{
		CheckpointPath: dir, Config: n.SandboxConfig(p), ContainerConfigs: []*runtimeapi.ContainerConfig{n.ContainerConfig(p, 0)},
	})
	if err == nil {
		return n.Adopt(p, resp.GetPodSandboxId(), resp.GetRestoredContainers()[0].GetContainerId()), nil
	}
	if status.Code(err) != codes.AlreadyExists {
		return nil, err
	}
	sandboxes, listed := n.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{})
	if listed != nil {
		return nil, listed
	}
	for _, sb := range sandboxes.GetItems() {
		if sb.GetMetadata().GetName() != p.Name {
			continue
		}
		containers, listed := n.ListContainers(ctx, &runtimeapi.ListContainersRequest{Filter: &runtimeapi.ContainerFilter{PodSandboxId: sb.GetId()}})
		switch {
		case listed != nil:
			return nil, listed
		case sb.GetState() == runtimeapi.PodSandboxState_SANDBOX_READY && len(containers.GetContainers()) == 1:
			return n.Adopt(p, sb.GetId(), containers.GetContainers()[0].GetId()), nil
		}
		if _, removed := n.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: sb.GetId()}); removed != nil {
			return nil, removed
		}
	}
	return nil, err
}
