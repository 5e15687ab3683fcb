// SPDX-License-Identifier: Apache-2.0

package arktos

import (
	"context"
	"fmt"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	arktosv1alpha2 "github.com/vmlet/vmlet/proto/arktos/v1alpha2"
)

// CreateContainer prepares one boot of the sandbox's VM. The NICs that the pod has by now are attached before: the node agent
// sends the sandbox's configuration of today, also for a VM that is made anew in an old sandbox.
func (s *Server) CreateContainer(ctx context.Context, req *arktosv1alpha2.CreateContainerRequest) (*arktosv1alpha2.CreateContainerResponse, error) {
	if config := req.GetSandboxConfig(); config != nil && req.GetPodSandboxId() != "" {
		nics, err := nicsOf(config.GetAnnotations())
		if err != nil {
			return nil, err
		}
		sb, err := s.svc.Sandbox(req.GetPodSandboxId())
		if err != nil {
			return nil, fmt.Errorf("create container: %w", err)
		}
		if err := s.attachMissing(ctx, sb, nics); err != nil {
			return nil, fmt.Errorf("create container: %w", err)
		}
	}
	plain := &arktosv1alpha2.CreateContainerRequest{PodSandboxId: req.GetPodSandboxId(), Config: req.GetConfig()}
	return through(ctx, plain, &runtimeapi.CreateContainerRequest{}, s.v1.CreateContainer, &arktosv1alpha2.CreateContainerResponse{})
}
