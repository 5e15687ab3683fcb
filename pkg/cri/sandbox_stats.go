// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/vm"
)

// PodSandboxStats answers from the last sample. NotFound for an unknown sandbox; one in
// which nothing runs has attributes and no figures.
func (s *Server) PodSandboxStats(_ context.Context, req *runtimeapi.PodSandboxStatsRequest) (*runtimeapi.PodSandboxStatsResponse, error) {
	if err := checkID("pod_sandbox_id", req.GetPodSandboxId()); err != nil {
		return nil, err
	}
	sb, err := s.svc.Sandbox(req.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	for _, c := range s.svc.Containers() {
		if c.SandboxID != sb.ID || c.Status.State != vm.ContainerRunning {
			continue
		}
		last, err := s.lastSample(*c)
		if err != nil {
			return nil, err
		}
		return &runtimeapi.PodSandboxStatsResponse{Stats: podSandboxStats(sb, c, last)}, nil
	}
	return &runtimeapi.PodSandboxStatsResponse{Stats: podSandboxStats(sb, nil, sample{})}, nil
}
