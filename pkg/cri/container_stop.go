// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"math"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// StopContainer asks the guest to power off and destroys the VM after the timeout: "The
// runtime must forcibly kill the container after the grace period is reached". A timeout
// of 0 destroys it at once. An unknown or stopped container is a success.
func (s *Server) StopContainer(ctx context.Context, req *runtimeapi.StopContainerRequest) (*runtimeapi.StopContainerResponse, error) {
	if err := checkID("container_id", req.GetContainerId()); err != nil {
		return nil, err
	}
	if req.GetTimeout() < 0 {
		return nil, invalid("timeout", "%d is negative", req.GetTimeout())
	}
	if err := s.svc.StopContainer(ctx, req.GetContainerId(), seconds(req.GetTimeout())); err != nil {
		return nil, err
	}
	return &runtimeapi.StopContainerResponse{}, nil
}

// seconds converts a number of seconds, which may be more than a Duration holds.
func seconds(n int64) time.Duration {
	const most = int64(math.MaxInt64 / time.Second)
	return time.Duration(min(n, most)) * time.Second
}
