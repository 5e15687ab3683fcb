// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// StreamContainers is ListContainers in portions: see inPortions.
func (s *Server) StreamContainers(req *runtimeapi.StreamContainersRequest, stream grpc.ServerStreamingServer[runtimeapi.StreamContainersResponse]) error {
	items, err := s.listedContainers(req.GetFilter())
	if err != nil {
		return err
	}
	return inPortions(items, itemSize, func(portion [][]byte) error {
		return stream.Send(encoded(&runtimeapi.StreamContainersResponse{}, portion))
	})
}
