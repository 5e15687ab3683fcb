// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/vm"
)

// CheckpointPod writes the pod's VM into a folder that is there and empty. A VM is one machine with one container: memory
// and disk are of one moment by themselves, and the guest goes on before the files are copied.
func (s *Server) CheckpointPod(ctx context.Context, req *runtimeapi.CheckpointPodRequest) (*runtimeapi.CheckpointPodResponse, error) {
	if err := checkID("pod_sandbox_id", req.GetPodSandboxId()); err != nil {
		return nil, err
	}
	if err := checkHostPath("output_path", req.GetOutputPath()); err != nil {
		return nil, err
	}
	if err := checkOptions(req.GetOptions()); err != nil {
		return nil, err
	}
	sb, err := s.svc.Sandbox(req.GetPodSandboxId())
	if err != nil {
		return nil, fmt.Errorf("checkpoint pod: %w", err)
	}
	if err := s.checkSelected(sb.ID, req.GetContainerIds()); err != nil {
		return nil, err
	}
	if _, err := s.svc.Checkpoint(ctx, sb.ID, filepath.Clean(req.GetOutputPath())); err != nil {
		return nil, err
	}
	return &runtimeapi.CheckpointPodResponse{}, nil
}

// checkSelected demands the running container of a sandbox, and that alone.
func (s *Server) checkSelected(sandboxID string, ids []string) error {
	if len(ids) == 0 {
		return invalid("container_ids", "must name the pod's running container")
	}
	var seen []string
	for i, id := range ids {
		field := fmt.Sprintf("container_ids[%d]", i)
		if err := checkID(field, id); err != nil {
			return err
		}
		c, err := s.svc.Container(id)
		if err != nil {
			return fmt.Errorf("%s: %w", field, err)
		}
		switch {
		case c.SandboxID != sandboxID:
			return invalid(field, "container %s is of sandbox %s, not of %s", c.ID, c.SandboxID, sandboxID)
		case slices.Contains(seen, c.ID):
			return invalid(field, "container %s is named twice", c.ID)
		}
		if err := checkRunning(field, c); err != nil {
			return err
		}
		seen = append(seen, c.ID)
	}
	return nil
}

func checkRunning(field string, c vm.Container) error {
	if c.Status.State != vm.ContainerRunning {
		return refused(field, fmt.Sprintf("container %s is %s, and only the memory of one that runs can be kept", c.ID, c.Status.State))
	}
	return nil
}

// checkOptions refuses all: "The runtime must reject unsupported or invalid keys and values rather than silently ignore
// them", and there are none.
func checkOptions(options map[string]string) error {
	for key := range options {
		return invalid("options", "%q is unknown; there are none", key)
	}
	return nil
}
