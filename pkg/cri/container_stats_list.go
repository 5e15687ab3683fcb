// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/vm"
)

// ListContainerStats answers from the last samples ("returns stats of all running
// containers").
func (s *Server) ListContainerStats(_ context.Context, req *runtimeapi.ListContainerStatsRequest) (*runtimeapi.ListContainerStatsResponse, error) {
	stats, err := s.listedContainerStats(req.GetFilter())
	if err != nil {
		return nil, err
	}
	return &runtimeapi.ListContainerStatsResponse{Stats: stats}, nil
}

func (s *Server) listedContainerStats(filter *runtimeapi.ContainerStatsFilter) ([]*runtimeapi.ContainerStats, error) {
	sandboxID, err := s.wholeSandboxID(filter.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	id, err := s.wholeContainerID(filter.GetId())
	if err != nil {
		return nil, err
	}
	samples := s.samples()
	var out []*runtimeapi.ContainerStats
	for _, c := range s.svc.Containers() {
		if c.Status.State != vm.ContainerRunning || !fits(c.ID, id) || !fits(c.SandboxID, sandboxID) {
			continue
		}
		if hasLabels(c.Spec.Labels, filter.GetLabelSelector()) {
			out = append(out, containerStats(*c, samples.of(*c)))
		}
	}
	return out, nil
}

// samples are the last samples of all running containers, by ID.
type samples map[string]vm.Stats

func (s *Server) samples() samples {
	all := s.svc.AllStats()
	byID := make(samples, len(all))
	for _, stats := range all {
		byID[stats.ContainerID] = stats
	}
	return byID
}

func (s samples) of(c vm.Container) sample {
	if stats, ok := s[c.ID]; ok {
		return sample{stats: stats, taken: true}
	}
	return atStart(c)
}
