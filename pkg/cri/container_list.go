// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"errors"

	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ListContainers answers from memory, newest first. The filter's fields "are combined
// with 'AND'".
func (s *Server) ListContainers(_ context.Context, req *runtimeapi.ListContainersRequest) (*runtimeapi.ListContainersResponse, error) {
	filter := req.GetFilter()
	sandboxID, err := s.sandboxOf(filter.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	containers, err := candidates(filter.GetId(), s.svc.Containers, s.svc.Container)
	if err != nil {
		return nil, err
	}
	var items []byte
	for i := len(containers) - 1; i >= 0; i-- {
		c := &containers[i]
		if state := filter.GetState(); state != nil && state.GetState() != containerState(c.Status.State) {
			continue
		}
		if (sandboxID == "" || sandboxID == c.SandboxID) && hasLabels(c.Spec.Labels, filter.GetLabelSelector()) {
			items = appendMessage(items, itemsField, func(b []byte) []byte { return appendContainer(b, c) })
		}
	}
	return encoded(&runtimeapi.ListContainersResponse{}, items), nil
}

// sandboxOf makes the whole ID out of a filter's sandbox ID, which may be a unique
// prefix. An unknown one is returned as it is: it fits no container.
func (s *Server) sandboxOf(id string) (string, error) {
	if id == "" {
		return "", nil
	}
	sb, err := s.svc.Sandbox(id)
	if errors.Is(err, errdefs.ErrNotFound) {
		return id, nil
	}
	return sb.ID, err
}
