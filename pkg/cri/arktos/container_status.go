// SPDX-License-Identifier: Apache-2.0

package arktos

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	arktosv1alpha2 "github.com/vmlet/vmlet/proto/arktos/v1alpha2"
)

// ContainerStatus answers from memory. The limits are in field 16 of both APIs, and of another type in each.
func (s *Server) ContainerStatus(ctx context.Context, req *arktosv1alpha2.ContainerStatusRequest) (*arktosv1alpha2.ContainerStatusResponse, error) {
	theirs, err := translate(req, &runtimeapi.ContainerStatusRequest{})
	if err != nil {
		return nil, err
	}
	resp, err := s.v1.ContainerStatus(ctx, theirs)
	if err != nil {
		return nil, err
	}
	limits := resp.GetStatus().GetResources().GetLinux()
	resp.Status.Resources = nil
	answer, err := translate(resp, &arktosv1alpha2.ContainerStatusResponse{})
	if err != nil || limits == nil {
		return answer, err
	}
	answer.Status.Resources, err = translate(limits, &arktosv1alpha2.LinuxContainerResources{})
	return answer, err
}
