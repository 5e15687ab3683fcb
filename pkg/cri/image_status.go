// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"errors"

	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ImageStatus looks an image up by ID or name: "If the image is not present, returns a
// response with ImageStatusResponse.Image set to nil."
func (s *Server) ImageStatus(ctx context.Context, req *runtimeapi.ImageStatusRequest) (*runtimeapi.ImageStatusResponse, error) {
	if err := checkImageRef(req.GetImage()); err != nil {
		return nil, err
	}
	img, err := s.svc.Image(ctx, req.GetImage().GetImage())
	if errors.Is(err, errdefs.ErrNotFound) {
		return &runtimeapi.ImageStatusResponse{}, nil
	}
	if err != nil {
		return nil, err
	}
	resp := &runtimeapi.ImageStatusResponse{Image: image(img)}
	if req.GetVerbose() {
		if resp.Info, err = imageInfo(img); err != nil {
			return nil, err
		}
	}
	return resp, nil
}

func checkImageRef(spec *runtimeapi.ImageSpec) error {
	if spec.GetImage() == "" {
		return invalid("image.image", "must not be empty")
	}
	return nil
}
