// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// vmOf finds the running container of the VM that ref names: by the ID of its sandbox or of a container, the unique
// beginning of one, or NAMESPACE/POD, maybe with TENANT/ before it. A container that runs no more stands for its sandbox. InvalidArgument, with the
// candidates, for what names more than one; FailedPrecondition for a sandbox in which no VM runs.
func (s *Service) vmOf(ref string) (vm.Container, error) {
	sandboxID, err := s.sandboxOf(ref)
	if err != nil {
		return vm.Container{}, err
	}
	c, ok := s.liveContainer(sandboxID)
	if !ok || c.Status.State != vm.ContainerRunning {
		return vm.Container{}, fmt.Errorf("VM %q: none runs in sandbox %s: %w", ref, sandboxID, errdefs.ErrFailedPrecondition)
	}
	if c.Status.Off() {
		return c, fmt.Errorf("VM %q: container %s: %w", ref, c.ID, errOff)
	}
	return c, nil
}

func (s *Service) sandboxOf(ref string) (id string, err error) {
	if strings.Contains(ref, "/") {
		return s.sandboxOfPod(ref)
	}
	sb, errSandbox := s.Sandbox(ref)
	c, errContainer := s.Container(ref)
	switch {
	case errSandbox == nil && errContainer == nil && sb.ID != c.SandboxID:
		return "", fmt.Errorf("%q is the beginning of the IDs of sandbox %s and of container %s; give more digits: %w",
			ref, sb.ID, c.ID, errdefs.ErrInvalidArgument)
	case errSandbox == nil:
		return sb.ID, nil
	case errContainer == nil:
		return c.SandboxID, nil
	case !errors.Is(errSandbox, errdefs.ErrNotFound):
		return "", errSandbox
	case !errors.Is(errContainer, errdefs.ErrNotFound):
		return "", errContainer
	}
	return "", fmt.Errorf("no sandbox or container has the ID %q, and a pod is named NAMESPACE/POD: %w", ref, errdefs.ErrNotFound)
}

// sandboxOfPod takes the newest attempt of a pod for the pod, and among pods of one name those that are ready before
// those that were.
func (s *Service) sandboxOfPod(pod string) (id string, err error) {
	newest := map[string]*vm.Sandbox{} // by pod and UID; the list is oldest first
	for _, sb := range s.Sandboxes() {
		if pod == sb.Spec.Pod() || pod == sb.Spec.Namespace+"/"+sb.Spec.Name {
			newest[sb.Spec.Pod()+"/"+sb.Spec.UID] = sb
		}
	}
	var ready, other []string
	for _, sb := range newest {
		candidate := sb.ID
		if sb.Spec.Tenant != "" {
			candidate += " of tenant " + sb.Spec.Tenant
		}
		if sb.Status.State == vm.SandboxReady {
			ready, id = append(ready, candidate), sb.ID
		} else {
			other = append(other, candidate)
			if len(ready) == 0 {
				id = sb.ID
			}
		}
	}
	candidates := ready
	if len(ready) == 0 {
		candidates = other
	}
	switch len(candidates) {
	case 0:
		return "", fmt.Errorf("pod %s has no sandbox: %w", pod, errdefs.ErrNotFound)
	case 1:
		return id, nil
	}
	slices.Sort(candidates)
	return "", fmt.Errorf("pod %s is the name of %d sandboxes, name one of them: %s: %w",
		pod, len(candidates), strings.Join(candidates, ", "), errdefs.ErrInvalidArgument)
}
