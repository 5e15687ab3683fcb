// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/vm"
)

// RunPodSandbox returns when the sandbox has its network ("Runtimes must ensure the
// sandbox is in the ready state on success"). Its VM is made by CreateContainer.
func (s *Server) RunPodSandbox(ctx context.Context, req *runtimeapi.RunPodSandboxRequest) (*runtimeapi.RunPodSandboxResponse, error) {
	spec, err := s.SandboxSpec(req)
	if err != nil {
		return nil, err
	}
	id, err := s.svc.RunSandbox(ctx, spec)
	if err != nil {
		return nil, err
	}
	return &runtimeapi.RunPodSandboxResponse{PodSandboxId: id}, nil
}

// SandboxSpec checks and converts what RunPodSandbox is asked for. Another API that says the same and more adds that to it.
func (s *Server) SandboxSpec(req *runtimeapi.RunPodSandboxRequest) (vm.SandboxSpec, error) {
	if err := s.checkHandler(req.GetRuntimeHandler()); err != nil {
		return vm.SandboxSpec{}, err
	}
	return sandboxSpec(req.GetConfig(), req.GetRuntimeHandler())
}
