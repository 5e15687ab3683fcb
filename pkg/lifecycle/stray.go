// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// endStray ends a VM that no container stands for. There is one after a start that
// failed and whose undo failed too, as both do when libvirt goes away between two steps:
// the container is Exited, its QEMU is not. So is one that somebody else started while the container's was powered off. Under the sandbox's lock, so a start under way
// is none.
func (s *Service) endStray(ctx context.Context, sandboxID string) error {
	if c, ok := s.liveContainer(sandboxID); ok && (c.Status.State == vm.ContainerStarting || c.Status.Runs() || c.Status.Off() && c.Status.PowerOff.Booting) {
		return nil
	}
	if err := s.deps.Hypervisor.Destroy(ctx, sandboxID); err != nil {
		return fmt.Errorf("end the VM that a failed start has left: %w", err)
	}
	return nil
}

func (s *Service) lockedEndStray(ctx context.Context, sandboxID string) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	unlock, err := s.locks.Lock(ctx, sandboxID)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := s.deps.Store.Sandboxes.Get(sandboxID); errors.Is(err, errdefs.ErrNotFound) {
		return nil // only recovery judges domains without a record
	}
	return s.endStray(ctx, sandboxID)
}

// clearRemains takes away what earlier calls wanted to and could not: creations whose undo
// failed, and a VM. Whoever holds the sandbox's lock knows that nobody else is at it.
func (s *Service) clearRemains(ctx context.Context, sandboxID string) error {
	earlier := s.containersOf(sandboxID)
	if len(earlier) == 0 {
		return nil
	}
	if err := s.endStray(ctx, sandboxID); err != nil {
		return err
	}
	for _, c := range earlier {
		if c.Status.State == vm.ContainerCreating {
			if err := s.undoCreate(ctx, c); err != nil {
				return fmt.Errorf("undo the creation of container %s: %w", c.ID, err)
			}
		}
	}
	return nil
}
