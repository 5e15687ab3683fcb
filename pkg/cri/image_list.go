// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"errors"

	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/vm"
)

// ListImages lists the images in the store. A filter is a reference, by ID or name.
func (s *Server) ListImages(ctx context.Context, req *runtimeapi.ListImagesRequest) (*runtimeapi.ListImagesResponse, error) {
	found, err := s.imagesBy(ctx, req.GetFilter().GetImage().GetImage())
	if err != nil {
		return nil, err
	}
	resp := &runtimeapi.ListImagesResponse{Images: make([]*runtimeapi.Image, 0, len(found))}
	for _, img := range found {
		resp.Images = append(resp.Images, image(img))
	}
	return resp, nil
}

func (s *Server) imagesBy(ctx context.Context, ref string) ([]vm.Image, error) {
	if ref == "" {
		return s.svc.Images(ctx)
	}
	img, err := s.svc.Image(ctx, ref)
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return []vm.Image{img}, nil
}
