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
	var items []byte
	for i := len(sandboxes) - 1; i >= 0; i-- {
		sb := &sandboxes[i]
		if state := filter.GetState(); state != nil && state.GetState() != sandboxState(sb.Status.State) {
			continue
		}
		if hasLabels(sb.Spec.Labels, filter.GetLabelSelector()) {
			items = appendMessage(items, itemsField, func(b []byte) []byte { return appendSandbox(b, sb) })
		}
	}
	return encoded(&runtimeapi.ListPodSandboxResponse{}, items), nil
}
