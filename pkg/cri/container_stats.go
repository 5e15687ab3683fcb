// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"errors"

	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/vm"
)

// ContainerStats answers from the last sample. NotFound for an unknown container; one
// that does not run and was never sampled has attributes and no figures.
func (s *Server) ContainerStats(_ context.Context, req *runtimeapi.ContainerStatsRequest) (*runtimeapi.ContainerStatsResponse, error) {
	if err := checkID("container_id", req.GetContainerId()); err != nil {
		return nil, err
	}
	c, err := s.svc.Container(req.GetContainerId())
	if err != nil {
		return nil, err
	}
	last, err := s.lastSample(c)
	if err != nil {
		return nil, err
	}
	return &runtimeapi.ContainerStatsResponse{Stats: containerStats(c, last)}, nil
}

func (s *Server) lastSample(c vm.Container) (sample, error) {
	stats, err := s.svc.Stats(c.ID)
	if errors.Is(err, errdefs.ErrNotFound) {
		return atStart(c), nil
	}
	if err != nil {
		return sample{}, err
	}
	return sample{stats: stats, taken: true}, nil
}
