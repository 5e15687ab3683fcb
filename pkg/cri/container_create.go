// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"fmt"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// CreateContainer prepares one boot of the sandbox's VM. NotFound for an unknown sandbox
// or image.
func (s *Server) CreateContainer(ctx context.Context, req *runtimeapi.CreateContainerRequest) (*runtimeapi.CreateContainerResponse, error) {
	if err := checkID("pod_sandbox_id", req.GetPodSandboxId()); err != nil {
		return nil, err
	}
	if err := s.checkHandler(req.GetConfig().GetImage().GetRuntimeHandler()); err != nil {
		return nil, err
	}
	sb, err := s.svc.Sandbox(req.GetPodSandboxId())
	if err != nil {
		return nil, fmt.Errorf("create container: %w", err)
	}
	spec, err := containerSpec(req.GetConfig(), sb.Spec.LogDirectory)
	if err != nil {
		return nil, err
	}
	if err := addSeccomp(spec.Security, req.GetConfig().GetLinux().GetSecurityContext(), hasCommand(req.GetConfig())); err != nil {
		return nil, err
	}
	id, err := s.svc.CreateContainer(ctx, sb.ID, spec)
	if err != nil {
		return nil, err
	}
	return &runtimeapi.CreateContainerResponse{ContainerId: id}, nil
}
