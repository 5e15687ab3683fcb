// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// PullImage fetches an image, or finds that it is up to date. The reference it returns
// is the image's ID.
func (s *Server) PullImage(ctx context.Context, req *runtimeapi.PullImageRequest) (*runtimeapi.PullImageResponse, error) {
	if err := checkImageRef(req.GetImage()); err != nil {
		return nil, err
	}
	// "Runtime handler to use for pulling the image. If the runtime handler is unknown,
	// the request should be rejected."
	if err := s.checkHandler(req.GetImage().GetRuntimeHandler()); err != nil {
		return nil, err
	}
	img, err := s.svc.PullImage(ctx, req.GetImage().GetImage(), registryAuth(req.GetAuth()), nil)
	if err != nil {
		return nil, err
	}
	return &runtimeapi.PullImageResponse{ImageRef: img.ID}, nil
}
