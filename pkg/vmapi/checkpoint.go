// SPDX-License-Identifier: Apache-2.0

package vmapi

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// Checkpoints are the use cases of VMs in folders.
type Checkpoints interface {
	Checkpoint(ctx context.Context, ref, dir string) (vm.Checkpoint, error)
	DetachCheckpoint(ctx context.Context, ref, dir string) (vm.OperationInfo, error)
	CheckpointIn(ctx context.Context, dir string) (vm.Checkpoint, error)
	RestoreCheckpoint(ctx context.Context, dir string) (vm.Checkpoint, vm.RestoredPod, error)
}

type checkpointServer struct {
	vmletv1.UnimplementedCheckpointServiceServer

	checkpoints Checkpoints
}

// CreateCheckpoint writes a VM into a folder.
func (s *checkpointServer) CreateCheckpoint(ctx context.Context, req *vmletv1.CreateCheckpointRequest) (*vmletv1.CreateCheckpointResponse, error) {
	if err := checkVM(req.GetVm()); err != nil {
		return nil, err
	}
	if err := checkFolder(req.GetPath()); err != nil {
		return nil, err
	}
	dir := filepath.Clean(req.GetPath())
	if req.GetDetach() {
		o, err := s.checkpoints.DetachCheckpoint(ctx, req.GetVm(), dir)
		if err != nil {
			return nil, err
		}
		return &vmletv1.CreateCheckpointResponse{Operation: operationOf(o)}, nil
	}
	c, err := s.checkpoints.Checkpoint(ctx, req.GetVm(), dir)
	if err != nil {
		return nil, err
	}
	told, err := checkpointOf(c)
	if err != nil {
		return nil, err
	}
	return &vmletv1.CreateCheckpointResponse{
		CheckpointId: told.GetCheckpointId(), PodSandboxId: told.GetPodSandboxId(), PauseMs: told.GetPauseMs(),
		DiskBytes: told.GetDiskBytes(), MemoryBytes: told.GetMemoryBytes(), DataDisks: told.GetDataDisks(),
	}, nil
}

// GetCheckpoint tells what a folder holds.
func (s *checkpointServer) GetCheckpoint(ctx context.Context, req *vmletv1.GetCheckpointRequest) (*vmletv1.GetCheckpointResponse, error) {
	if err := checkFolder(req.GetPath()); err != nil {
		return nil, err
	}
	c, err := s.checkpoints.CheckpointIn(ctx, filepath.Clean(req.GetPath()))
	if err != nil {
		return nil, err
	}
	return checkpointOf(c)
}

func checkpointOf(c vm.Checkpoint) (*vmletv1.GetCheckpointResponse, error) {
	out := &vmletv1.GetCheckpointResponse{
		CheckpointId: c.ID, PodSandboxId: c.SandboxID, PodNamespace: c.Sandbox.Namespace, PodName: c.Sandbox.Name,
		CreatedAt: c.CreatedAt.UnixNano(), PauseMs: c.Paused.Milliseconds(),
	}
	for _, name := range c.Names() {
		file, err := c.File(name)
		if err != nil {
			return nil, err
		}
		switch name {
		case vm.CheckpointMemory:
			out.MemoryBytes = file.Size
		case vm.CheckpointNVRAM: // is on no disk
		default:
			out.DiskBytes += file.Size
		}
	}
	for _, d := range c.OwnDisks() {
		out.DataDisks = append(out.DataDisks, d.Name)
	}
	return out, nil
}

// RestoreCheckpoint makes a pod of a folder.
func (s *checkpointServer) RestoreCheckpoint(ctx context.Context, req *vmletv1.RestoreCheckpointRequest) (*vmletv1.RestoreCheckpointResponse, error) {
	if err := checkFolder(req.GetPath()); err != nil {
		return nil, err
	}
	c, pod, err := s.checkpoints.RestoreCheckpoint(ctx, filepath.Clean(req.GetPath()))
	if err != nil {
		return nil, err
	}
	return &vmletv1.RestoreCheckpointResponse{
		PodNamespace: c.Sandbox.Namespace, PodName: c.Sandbox.Name, PodSandboxId: pod.SandboxID, ContainerId: pod.ContainerID,
	}, nil
}

func checkFolder(path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("path: %q is not absolute: %w", path, errdefs.ErrInvalidArgument)
	}
	return nil
}
