// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// UpdatePodSandboxResources changes the pod's limits and its overhead. CRI says that it is
// called after the pod's cgroup was changed; kubelet calls it before, and lets an error other
// than Unimplemented reject the resize (kubelet 1.36, setPodCgroupConfig). So what the VM
// cannot be given is FailedPrecondition here, before anything has changed.
func (s *Server) UpdatePodSandboxResources(ctx context.Context, req *runtimeapi.UpdatePodSandboxResourcesRequest) (*runtimeapi.UpdatePodSandboxResourcesResponse, error) {
	if err := checkID("pod_sandbox_id", req.GetPodSandboxId()); err != nil {
		return nil, err
	}
	limits, err := resources("resources", req.GetResources())
	if err != nil {
		return nil, err
	}
	overhead, err := resources("overhead", req.GetOverhead())
	if err != nil {
		return nil, err
	}
	if err := s.svc.UpdateSandboxResources(ctx, req.GetPodSandboxId(), limits, overhead); err != nil {
		return nil, err
	}
	return &runtimeapi.UpdatePodSandboxResourcesResponse{}, nil
}
