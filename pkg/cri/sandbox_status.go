// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"slices"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// PodSandboxStatus answers from memory, with the sandbox's containers. NotFound for an
// unknown sandbox ("If the PodSandbox is not present, returns an error").
func (s *Server) PodSandboxStatus(ctx context.Context, req *runtimeapi.PodSandboxStatusRequest) (*runtimeapi.PodSandboxStatusResponse, error) {
	if err := checkID("pod_sandbox_id", req.GetPodSandboxId()); err != nil {
		return nil, err
	}
	// Before the reading: what it tells is at least this new.
	recorded := time.Now()
	sb, err := s.svc.Sandbox(req.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	resp := &runtimeapi.PodSandboxStatusResponse{
		Status:             podSandboxStatus(sb),
		ContainersStatuses: s.statusesOf(ctx, sb.ID),
		Timestamp:          nanos(recorded),
	}
	if req.GetVerbose() {
		if resp.Info, err = sandboxInfo(sb, s.svc.SandboxDisks(sb)); err != nil {
			return nil, err
		}
	}
	return resp, nil
}

// statusesOf are the statuses of a sandbox's containers, newest first.
func (s *Server) statusesOf(ctx context.Context, sandboxID string) []*runtimeapi.ContainerStatus {
	var out []*runtimeapi.ContainerStatus
	for _, c := range slices.Backward(s.svc.Containers()) {
		if c.SandboxID == sandboxID {
			out = append(out, containerStatus(*c, s.imageRef(ctx, *c)))
		}
	}
	return out
}
