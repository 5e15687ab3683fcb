// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// Gates are the gates that are closed, by runtime handler. A handler that is not listed has those of "", the default one.
type Gates map[string]map[vm.Gate]bool

// SetGates replaces the gates for what is asked for from now on.
func (s *Service) SetGates(g Gates) { s.gates.Store(&g) }

// gate is FailedPrecondition, with the key, where the configuration does not want this done to VMs of the sandbox's runtime
// handler. Ask it before anything is recorded. What was begun is finished all the same, also after a restart.
func (s *Service) gate(sb vm.Sandbox, g vm.Gate) error {
	handler := sb.Spec.RuntimeHandler
	if s.closed(handler, g) {
		return fmt.Errorf("%s: %w", closedText(handler, g), errdefs.ErrFailedPrecondition)
	}
	return nil
}

func closedText(handler string, g vm.Gate) string {
	return fmt.Sprintf("gates.%s is closed in the configuration for pods of runtime handler %q", g, handler)
}

func (s *Service) closed(handler string, g vm.Gate) bool {
	gates := *s.gates.Load()
	closed, listed := gates[handler]
	if !listed {
		closed = gates[""]
	}
	return closed[g]
}

// gateVM is gate for the VM of a container.
func (s *Service) gateVM(c vm.Container, g vm.Gate) error {
	sb, err := s.deps.Store.Sandboxes.Get(c.SandboxID)
	if err != nil {
		return err
	}
	return s.gate(sb, g)
}
