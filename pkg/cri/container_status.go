// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/vm"
)

// ContainerStatus answers from memory. NotFound for an unknown container ("If the
// container is not present, returns an error").
func (s *Server) ContainerStatus(ctx context.Context, req *runtimeapi.ContainerStatusRequest) (*runtimeapi.ContainerStatusResponse, error) {
	if err := checkID("container_id", req.GetContainerId()); err != nil {
		return nil, err
	}
	c, err := s.svc.Container(req.GetContainerId())
	if err != nil {
		return nil, err
	}
	resp := &runtimeapi.ContainerStatusResponse{Status: containerStatus(c, s.imageRef(ctx, c))}
	if req.GetVerbose() {
		if resp.Info, err = containerInfo(c); err != nil {
			return nil, err
		}
	}
	return resp, nil
}

// imageRef is the digested reference of a container's image. An image that is gone, or
// cannot be looked up, is told by its ID, which is a digest too.
func (s *Server) imageRef(ctx context.Context, c vm.Container) string {
	img, err := s.svc.Image(ctx, c.Spec.ImageID)
	if err != nil {
		return c.Spec.ImageID
	}
	return digestedRef(img, c.Spec)
}
