// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// Sandbox returns the visible sandbox with this ID or unique prefix of one.
func (s *Service) Sandbox(ref string) (vm.Sandbox, error) {
	return find(s.deps.Store.Sandboxes, "sandbox", ref,
		func(sb vm.Sandbox) (string, bool) { return sb.ID, sb.Status.Visible() })
}

// Sandboxes returns all visible sandboxes.
func (s *Service) Sandboxes() []vm.Sandbox {
	return visible(s.deps.Store.Sandboxes.List(), func(sb vm.Sandbox) bool { return sb.Status.Visible() })
}

// Container returns the visible container with this ID or unique prefix of one.
func (s *Service) Container(ref string) (vm.Container, error) {
	return find(s.deps.Store.Containers, "container", ref,
		func(c vm.Container) (string, bool) { return c.ID, c.Status.Visible() })
}

// Containers returns all visible containers.
func (s *Service) Containers() []vm.Container {
	return visible(s.deps.Store.Containers.List(), func(c vm.Container) bool { return c.Status.Visible() })
}

// containersOf returns all containers of a sandbox, visible or not, oldest first.
func (s *Service) containersOf(sandboxID string) []vm.Container {
	return visible(s.deps.Store.Containers.List(), func(c vm.Container) bool { return c.SandboxID == sandboxID })
}

// liveContainer returns the container that holds the sandbox's VM, if any.
func (s *Service) liveContainer(sandboxID string) (vm.Container, bool) {
	for _, c := range s.containersOf(sandboxID) {
		if c.Status.Live() {
			return c, true
		}
	}
	return vm.Container{}, false
}

func find[T any](records Records[T], what, ref string, id func(T) (string, bool)) (T, error) {
	var zero T
	v, err := records.Get(ref)
	if err == nil {
		if _, ok := id(v); ok {
			return v, nil
		}
		return zero, fmt.Errorf("%s %q: %w", what, ref, errdefs.ErrNotFound)
	}
	if !errors.Is(err, errdefs.ErrNotFound) || ref == "" {
		return zero, fmt.Errorf("%s %q: %w", what, ref, err)
	}
	var matches []T
	for _, v := range records.List() {
		if vid, ok := id(v); ok && strings.HasPrefix(vid, ref) {
			matches = append(matches, v)
		}
	}
	switch len(matches) {
	case 0:
		return zero, fmt.Errorf("%s %q: %w", what, ref, errdefs.ErrNotFound)
	case 1:
		return matches[0], nil
	default:
		return zero, fmt.Errorf("%s %q is the beginning of %d IDs; give more digits: %w", what, ref, len(matches), errdefs.ErrInvalidArgument)
	}
}

func visible[T any](all []T, keep func(T) bool) []T {
	out := all[:0]
	for _, v := range all {
		if keep(v) {
			out = append(out, v)
		}
	}
	return out
}
