// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/vm"
)

// ListPodSandboxMetrics answers from the last samples, for the sandboxes that are ready.
func (s *Server) ListPodSandboxMetrics(context.Context, *runtimeapi.ListPodSandboxMetricsRequest) (*runtimeapi.ListPodSandboxMetricsResponse, error) {
	return &runtimeapi.ListPodSandboxMetricsResponse{PodMetrics: s.listedMetrics()}, nil
}

func (s *Server) listedMetrics() []*runtimeapi.PodSandboxMetrics {
	samples, running := s.samples(), s.runningContainers()
	var out []*runtimeapi.PodSandboxMetrics
	for _, sb := range s.svc.Sandboxes() {
		if sb.Status.State != vm.SandboxReady {
			continue
		}
		of := &runtimeapi.PodSandboxMetrics{PodSandboxId: sb.ID}
		if c := running[sb.ID]; c != nil {
			if stats, ok := samples[c.ID]; ok {
				of.Metrics = podMetrics(sb, stats)
				of.ContainerMetrics = []*runtimeapi.ContainerMetrics{{ContainerId: c.ID, Metrics: containerMetrics(sb, c, stats)}}
			}
		}
		out = append(out, of)
	}
	return out
}
