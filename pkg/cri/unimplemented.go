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
	"CheckpointContainer": "a VM cannot be checkpointed yet",
	"CheckpointPod":       "a VM cannot be checkpointed yet",
	"RestorePod":          "a VM cannot be restored yet",
}

func unimplemented(rpc string) error {
	return fmt.Errorf("%s: %s: %w", rpc, instead[rpc], errdefs.ErrNotImplemented)
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
