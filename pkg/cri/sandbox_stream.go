// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// StreamPodSandboxes is ListPodSandbox in portions: see inPortions.
func (s *Server) StreamPodSandboxes(req *runtimeapi.StreamPodSandboxesRequest, stream grpc.ServerStreamingServer[runtimeapi.StreamPodSandboxesResponse]) error {
	items, err := s.listedSandboxes(req.GetFilter())
	if err != nil {
		return err
	}
	return inPortions(items, itemSize, func(portion [][]byte) error {
		return stream.Send(encoded(&runtimeapi.StreamPodSandboxesResponse{}, portion))
	})
}
