// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"fmt"
	"path/filepath"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/vm"
)

// RestorePod makes a sandbox and its container of a checkpoint; StartContainer has the guest go on.
func (s *Server) RestorePod(ctx context.Context, req *runtimeapi.RestorePodRequest) (*runtimeapi.RestorePodResponse, error) {
	if err := checkHostPath("checkpoint_path", req.GetCheckpointPath()); err != nil {
		return nil, err
	}
	if err := checkOptions(req.GetOptions()); err != nil {
		return nil, err
	}
	if err := s.checkHandler(req.GetRuntimeHandler()); err != nil {
		return nil, err
	}
	spec, err := sandboxSpec(req.GetConfig(), req.GetRuntimeHandler())
	if err != nil {
		return nil, err
	}
	container, err := s.restoredSpec(req.GetContainerConfigs(), spec.LogDirectory)
	if err != nil {
		return nil, err
	}
	pod, err := s.svc.RestorePod(ctx, vm.PodRestore{Dir: filepath.Clean(req.GetCheckpointPath()), Sandbox: spec, Container: container})
	if err != nil {
		return nil, err
	}
	return &runtimeapi.RestorePodResponse{
		PodSandboxId:       pod.SandboxID,
		RestoredContainers: []*runtimeapi.RestoredContainer{{Name: container.Name, ContainerId: pod.ContainerID}},
	}, nil
}

// restoredSpec converts the one container that a checkpoint holds.
func (s *Server) restoredSpec(configs []*runtimeapi.ContainerConfig, logDirectory string) (vm.ContainerSpec, error) {
	if len(configs) != 1 {
		return vm.ContainerSpec{}, invalid("container_configs", "has %d entries: a checkpoint of a VM holds one container", len(configs))
	}
	config := configs[0]
	if err := s.checkHandler(config.GetImage().GetRuntimeHandler()); err != nil {
		return vm.ContainerSpec{}, err
	}
	spec, err := containerSpec(config, logDirectory)
	if err != nil {
		return vm.ContainerSpec{}, fmt.Errorf("container_configs[0]: %w", err)
	}
	return spec, addSeccomp(spec.Security, config.GetLinux().GetSecurityContext(), hasCommand(config))
}
