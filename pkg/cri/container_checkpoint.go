// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// CheckpointContainer writes the container's whole VM into a folder, which CRI calls an archive: location is not there yet,
// or an empty folder.
func (s *Server) CheckpointContainer(ctx context.Context, req *runtimeapi.CheckpointContainerRequest) (*runtimeapi.CheckpointContainerResponse, error) {
	if err := checkID("container_id", req.GetContainerId()); err != nil {
		return nil, err
	}
	if err := checkHostPath("location", req.GetLocation()); err != nil {
		return nil, err
	}
	if req.GetTimeout() < 0 {
		return nil, invalid("timeout", "%d is negative", req.GetTimeout())
	}
	c, err := s.svc.Container(req.GetContainerId())
	if err != nil {
		return nil, fmt.Errorf("checkpoint container: %w", err)
	}
	if err := checkRunning("container_id", c); err != nil {
		return nil, err
	}
	if t := req.GetTimeout(); t > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(min(t, longestTimeout))*time.Second)
		defer cancel()
	}
	if _, err := s.svc.Checkpoint(ctx, c.SandboxID, filepath.Clean(req.GetLocation())); err != nil {
		return nil, err
	}
	return &runtimeapi.CheckpointContainerResponse{}, nil
}

// longestTimeout is in seconds: more than any checkpoint takes.
const longestTimeout = 24 * 60 * 60
