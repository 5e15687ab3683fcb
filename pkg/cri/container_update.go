// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// UpdateContainerResources changes the limits of the VM's group; what the request leaves open
// stays. What would need a guest of another size is FailedPrecondition, and all stays as it
// was ("If runtime fails to transactionally update the requested resources, an error is
// returned").
func (s *Server) UpdateContainerResources(ctx context.Context, req *runtimeapi.UpdateContainerResourcesRequest) (*runtimeapi.UpdateContainerResourcesResponse, error) {
	if err := checkID("container_id", req.GetContainerId()); err != nil {
		return nil, err
	}
	change, err := resources("linux", req.GetLinux())
	if err != nil {
		return nil, err
	}
	if change == nil {
		return nil, invalid("linux", "there are no limits to change to")
	}
	if err := s.svc.UpdateContainerResources(ctx, req.GetContainerId(), *change); err != nil {
		return nil, err
	}
	return &runtimeapi.UpdateContainerResourcesResponse{}, nil
}
