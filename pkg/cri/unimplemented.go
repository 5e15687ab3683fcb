// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// instead says, for each RPC that is not implemented, what to use in its place.
var instead = map[string]string{
	"UpdateContainerResources":  "a VM keeps the size it was created with; create the container anew",
	"UpdatePodSandboxResources": "a VM keeps the size it was created with; create the pod anew",
	"CheckpointContainer":       "a VM cannot be checkpointed yet",
	"CheckpointPod":             "a VM cannot be checkpointed yet",
	"RestorePod":                "a VM cannot be restored yet",
}

func unimplemented(rpc string) error {
	return fmt.Errorf("%s: %s: %w", rpc, instead[rpc], errdefs.ErrNotImplemented)
}

// UpdateContainerResources is not implemented.
func (*Server) UpdateContainerResources(context.Context, *runtimeapi.UpdateContainerResourcesRequest) (*runtimeapi.UpdateContainerResourcesResponse, error) {
	return nil, unimplemented("UpdateContainerResources")
}

// UpdatePodSandboxResources is not implemented. The kubelet goes on without it ("This
// request is treated as best effort").
func (*Server) UpdatePodSandboxResources(context.Context, *runtimeapi.UpdatePodSandboxResourcesRequest) (*runtimeapi.UpdatePodSandboxResourcesResponse, error) {
	return nil, unimplemented("UpdatePodSandboxResources")
}

// CheckpointContainer is not implemented.
func (*Server) CheckpointContainer(context.Context, *runtimeapi.CheckpointContainerRequest) (*runtimeapi.CheckpointContainerResponse, error) {
	return nil, unimplemented("CheckpointContainer")
}

// CheckpointPod is not implemented.
func (*Server) CheckpointPod(context.Context, *runtimeapi.CheckpointPodRequest) (*runtimeapi.CheckpointPodResponse, error) {
	return nil, unimplemented("CheckpointPod")
}

// RestorePod is not implemented.
func (*Server) RestorePod(context.Context, *runtimeapi.RestorePodRequest) (*runtimeapi.RestorePodResponse, error) {
	return nil, unimplemented("RestorePod")
}
