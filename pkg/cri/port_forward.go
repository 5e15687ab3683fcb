// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"fmt"
	"math"

	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/vm"
)

// PortForward promises connections to ports of the guest's loopback.
func (s *Server) PortForward(_ context.Context, req *runtimeapi.PortForwardRequest) (*runtimeapi.PortForwardResponse, error) {
	if err := checkID("pod_sandbox_id", req.GetPodSandboxId()); err != nil {
		return nil, err
	}
	for i, port := range req.GetPort() {
		if port < 1 || port > math.MaxUint16 {
			return nil, invalid(fmt.Sprintf("port[%d]", i), "%d is not between 1 and %d", port, math.MaxUint16)
		}
	}
	sandbox, err := s.svc.Sandbox(req.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	if sandbox.Status.State != vm.SandboxReady {
		return nil, fmt.Errorf("sandbox %s is %s, not ready: %w", sandbox.ID, sandbox.Status.State, errdefs.ErrFailedPrecondition)
	}
	url, err := s.cfg.Streams.PortForward(sandbox.ID, req.GetPort())
	if err != nil {
		return nil, err
	}
	return &runtimeapi.PortForwardResponse{Url: url}, nil
}
