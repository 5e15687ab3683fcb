// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/vm"
)

// ListPodSandboxStats answers from the last samples, for the ready sandboxes that the
// filter leaves.
func (s *Server) ListPodSandboxStats(_ context.Context, req *runtimeapi.ListPodSandboxStatsRequest) (*runtimeapi.ListPodSandboxStatsResponse, error) {
	stats, err := s.listedSandboxStats(req.GetFilter())
	if err != nil {
		return nil, err
	}
	return &runtimeapi.ListPodSandboxStatsResponse{Stats: stats}, nil
}

func (s *Server) listedSandboxStats(filter *runtimeapi.PodSandboxStatsFilter) ([]*runtimeapi.PodSandboxStats, error) {
	id, err := s.wholeSandboxID(filter.GetId())
	if err != nil {
		return nil, err
	}
	samples := s.samples()
	running := s.runningContainers()
	var out []*runtimeapi.PodSandboxStats
	for _, sb := range s.svc.Sandboxes() {
		if !fits(sb.ID, id) || sb.Status.State != vm.SandboxReady || !hasLabels(sb.Spec.Labels, filter.GetLabelSelector()) {
			continue
		}
		var last sample
		if c := running[sb.ID]; c != nil {
			last = samples.of(*c)
		}
		out = append(out, podSandboxStats(*sb, running[sb.ID], last))
	}
	return out, nil
}

// runningContainers are the containers that run, by sandbox.
func (s *Server) runningContainers() map[string]*vm.Container {
	running := map[string]*vm.Container{}
	for _, c := range s.svc.Containers() {
		if c.Status.State == vm.ContainerRunning {
			running[c.SandboxID] = c
		}
	}
	return running
}
