// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/log"
)

// UpdateRuntimeConfig accepts the node's pod CIDR and does nothing with it: addresses
// are the CNI plugins' to give, from the configuration that they have.
func (*Server) UpdateRuntimeConfig(ctx context.Context, _ *runtimeapi.UpdateRuntimeConfigRequest) (*runtimeapi.UpdateRuntimeConfigResponse, error) {
	log.From(ctx).Info("the pod CIDR is ignored: addresses come from the CNI configuration")
	return &runtimeapi.UpdateRuntimeConfigResponse{}, nil
}
