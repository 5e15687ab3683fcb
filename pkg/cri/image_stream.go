// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// StreamImages is ListImages in portions: see inPortions.
func (s *Server) StreamImages(req *runtimeapi.StreamImagesRequest, stream grpc.ServerStreamingServer[runtimeapi.StreamImagesResponse]) error {
	items, err := s.listedImages(stream.Context(), req.GetFilter())
	if err != nil {
		return err
	}
	return inPortions(items, messageSize, func(portion []*runtimeapi.Image) error {
		return stream.Send(&runtimeapi.StreamImagesResponse{Images: portion})
	})
}
