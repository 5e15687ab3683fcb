// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"slices"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ListContainers answers from memory, newest first. The filter's fields "are combined
// with 'AND'".
func (s *Server) ListContainers(_ context.Context, req *runtimeapi.ListContainersRequest) (*runtimeapi.ListContainersResponse, error) {
	listed, err := s.listedContainers(req.GetFilter())
	if err != nil {
		return nil, err
	}
	return encoded(&runtimeapi.ListContainersResponse{}, listed), nil
}

// listedContainers are the items that a filter leaves. Their bytes are shared.
func (s *Server) listedContainers(filter *runtimeapi.ContainerFilter) ([][]byte, error) {
	sandboxID, err := s.wholeSandboxID(filter.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	id, err := s.wholeContainerID(filter.GetId())
	if err != nil {
		return nil, err
	}
	all := s.svc.Containers()
	items := s.containerItems.of(all)
	var listed [][]byte
	for i, c := range slices.Backward(all) {
		if state := filter.GetState(); state != nil && state.GetState() != containerState(c.Status.State) {
			continue
		}
		if fits(c.ID, id) && fits(c.SandboxID, sandboxID) && hasLabels(c.Spec.Labels, filter.GetLabelSelector()) {
			listed = append(listed, items[i])
		}
	}
	return listed, nil
}
