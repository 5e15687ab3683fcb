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
	images, err := s.listedImages(ctx, req.GetFilter())
	if err != nil {
		return nil, err
	}
	return &runtimeapi.ListImagesResponse{Images: images}, nil
}

func (s *Server) listedImages(ctx context.Context, filter *runtimeapi.ImageFilter) ([]*runtimeapi.Image, error) {
	found, err := s.imagesBy(ctx, filter.GetImage().GetImage())
	if err != nil {
		return nil, err
	}
	out := make([]*runtimeapi.Image, 0, len(found))
	for _, img := range found {
		out = append(out, image(img))
	}
	return out, nil
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
