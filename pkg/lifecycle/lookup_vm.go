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
// beginning of one, or NAMESPACE/POD. A container that runs no more stands for its sandbox. InvalidArgument, with the
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
	return c, nil
}

func (s *Service) sandboxOf(ref string) (id string, err error) {
	if namespace, name, is := strings.Cut(ref, "/"); is {
		return s.sandboxOfPod(namespace, name)
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
func (s *Service) sandboxOfPod(namespace, name string) (id string, err error) {
	newest := map[string]*vm.Sandbox{} // by UID; the list is oldest first
	for _, sb := range s.Sandboxes() {
		if sb.Spec.Namespace == namespace && sb.Spec.Name == name {
			newest[sb.Spec.UID] = sb
		}
	}
	var ready, other []string
	for _, sb := range newest {
		if sb.Status.State == vm.SandboxReady {
			ready = append(ready, sb.ID)
		} else {
			other = append(other, sb.ID)
		}
	}
	candidates := ready
	if len(ready) == 0 {
		candidates = other
	}
	switch len(candidates) {
	case 0:
		return "", fmt.Errorf("pod %s/%s has no sandbox: %w", namespace, name, errdefs.ErrNotFound)
	case 1:
		return candidates[0], nil
	}
	slices.Sort(candidates)
	return "", fmt.Errorf("pod %s/%s is the name of %d sandboxes, name one of them: %s: %w",
		namespace, name, len(candidates), strings.Join(candidates, ", "), errdefs.ErrInvalidArgument)
}
