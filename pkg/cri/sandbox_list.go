// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ListPodSandbox answers from memory, newest first. The filter's fields "are combined
// with 'AND'".
func (s *Server) ListPodSandbox(_ context.Context, req *runtimeapi.ListPodSandboxRequest) (*runtimeapi.ListPodSandboxResponse, error) {
	filter := req.GetFilter()
	sandboxes, err := candidates(filter.GetId(), s.svc.Sandboxes, s.svc.Sandbox)
	if err != nil {
		return nil, err
	}
	items := make([]*runtimeapi.PodSandbox, 0, len(sandboxes))
	for _, sb := range sandboxes {
		if state := filter.GetState(); state != nil && state.GetState() != sandboxState(sb.Status.State) {
			continue
		}
		if hasLabels(sb.Spec.Labels, filter.GetLabelSelector()) {
			items = append(items, podSandbox(sb))
		}
	}
	newestFirst(items)
	return &runtimeapi.ListPodSandboxResponse{Items: items}, nil
}
