// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"slices"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ListPodSandbox answers from memory, newest first. The filter's fields "are combined
// with 'AND'".
func (s *Server) ListPodSandbox(_ context.Context, req *runtimeapi.ListPodSandboxRequest) (*runtimeapi.ListPodSandboxResponse, error) {
	listed, err := s.listedSandboxes(req.GetFilter())
	if err != nil {
		return nil, err
	}
	return encoded(&runtimeapi.ListPodSandboxResponse{}, listed), nil
}

// listedSandboxes are the items that a filter leaves. Their bytes are shared.
func (s *Server) listedSandboxes(filter *runtimeapi.PodSandboxFilter) ([][]byte, error) {
	id, err := s.wholeSandboxID(filter.GetId())
	if err != nil {
		return nil, err
	}
	all := s.svc.Sandboxes()
	items := s.sandboxItems.of(all)
	var listed [][]byte
	for i, sb := range slices.Backward(all) {
		if state := filter.GetState(); state != nil && state.GetState() != sandboxState(sb.Status.State) {
			continue
		}
		if fits(sb.ID, id) && hasLabels(sb.Spec.Labels, filter.GetLabelSelector()) {
			listed = append(listed, items[i])
		}
	}
	return listed, nil
}
