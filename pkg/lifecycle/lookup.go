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

// Sandbox returns the visible sandbox with this ID or unique prefix of one.
func (s *Service) Sandbox(ref string) (vm.Sandbox, error) {
	return find(s.deps.Store.Sandboxes, "sandbox", ref,
		func(sb vm.Sandbox) (string, bool) { return sb.ID, sb.Status.Visible() })
}

// Sandboxes returns all visible sandboxes, oldest first. Each stays as it is: a change
// makes another one, at another address. Never write into them.
func (s *Service) Sandboxes() []*vm.Sandbox {
	return slices.DeleteFunc(s.deps.Store.Sandboxes.All(), func(sb *vm.Sandbox) bool { return !sb.Status.Visible() })
}

// Container returns the visible container with this ID or unique prefix of one.
func (s *Service) Container(ref string) (vm.Container, error) {
	return find(s.deps.Store.Containers, "container", ref,
		func(c vm.Container) (string, bool) { return c.ID, c.Status.Visible() })
}

// Containers returns all visible containers, under the terms of Sandboxes.
func (s *Service) Containers() []*vm.Container {
	return slices.DeleteFunc(s.deps.Store.Containers.All(), func(c *vm.Container) bool { return !c.Status.Visible() })
}

// containersOf returns all containers of a sandbox, visible or not, oldest first.
func (s *Service) containersOf(sandboxID string) []vm.Container {
	var out []vm.Container
	for _, c := range s.deps.Store.Containers.All() {
		if c.SandboxID == sandboxID {
			out = append(out, *c)
		}
	}
	return out
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

// mostCandidates is how many IDs an error lists that were not meant all.
const mostCandidates = 5

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
	var matches []*T
	for _, v := range records.All() {
		if vid, ok := id(*v); ok && strings.HasPrefix(vid, ref) {
			matches = append(matches, v)
		}
	}
	switch len(matches) {
	case 0:
		return zero, fmt.Errorf("%s %q: %w", what, ref, errdefs.ErrNotFound)
	case 1:
		return *matches[0], nil
	default:
		var ids []string
		for _, m := range matches[:min(len(matches), mostCandidates)] {
			one, _ := id(*m)
			ids = append(ids, one)
		}
		return zero, fmt.Errorf("%s %q is the beginning of %d IDs, such as %s; give more digits: %w",
			what, ref, len(matches), strings.Join(ids, ", "), errdefs.ErrInvalidArgument)
	}
}
