// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	"go.uber.org/zap"

	"github.com/vmlet/vmlet/pkg/log"
	"github.com/vmlet/vmlet/pkg/vm"
)

// startDomain makes QEMU: of the memory that a container was restored with, as long as its guest has not gone on. After that
// the disk is not that of the memory's moment any more, and a start that was cut short is over if its QEMU is.
func (s *Service) startDomain(ctx context.Context, c vm.Container) error {
	from := c.Status.Checkpoint
	switch {
	case from == nil || !from.Pending && c.Status.State != vm.ContainerStarting:
		return s.deps.Hypervisor.Start(ctx, c.SandboxID)
	case from.Pending:
		return s.startFromCheckpoint(ctx, c.SandboxID, s.cfg.Paths.SnapshotMemory(c.SandboxID, from.ID))
	}
	return fmt.Errorf("its guest had gone on from its checkpoint, and has ended before the start was over: %w", errdefs.ErrFailedPrecondition)
}

// startFromCheckpoint starts QEMU in memory that names the NICs of its sandbox: they were written into it.
func (s *Service) startFromCheckpoint(ctx context.Context, sandboxID, memory string) error {
	sb, err := s.deps.Store.Sandboxes.Get(sandboxID)
	if err != nil {
		return err
	}
	_, err = s.deps.Hypervisor.StartFromMemory(ctx, sandboxID, memory, sb.NICs())
	return err
}

// recordMemoryTaken records, before the guest goes on, that its memory is used up.
func (s *Service) recordMemoryTaken(c vm.Container) error {
	if c.Status.Checkpoint == nil || !c.Status.Checkpoint.Pending {
		return nil
	}
	_, err := s.updateContainer(c.ID, "memory taken", func(st vm.ContainerStatus) (vm.ContainerStatus, error) {
		from := *st.Checkpoint
		from.Pending = false
		st.Checkpoint = &from
		return st, nil
	})
	return err
}

// forgetMemory removes the memory that a container which runs was restored with.
func (s *Service) forgetMemory(ctx context.Context, c vm.Container) {
	if c.Status.Checkpoint == nil {
		return
	}
	if err := s.deps.Disks.RemoveFile(ctx, s.cfg.Paths.SnapshotMemory(c.SandboxID, c.Status.Checkpoint.ID)); err != nil {
		log.From(ctx).Warn("the memory of a checkpoint stays until vmlet is restarted or the pod removed", zap.String("sandbox", c.SandboxID), zap.Error(err))
	}
}

// readdress tells a guest that was restored of the addresses that it has now, once. What a boot after that finds is in its
// seed.
func (s *Service) readdress(ctx context.Context, sandboxID, containerID string) error {
	c, err := s.deps.Store.Containers.Get(containerID)
	if err != nil || c.Status.Checkpoint == nil || len(c.Status.Checkpoint.NICs) == 0 {
		return nil //nolint:nilerr // it was removed, and nobody waits for it
	}
	sb, err := s.deps.Store.Sandboxes.Get(sandboxID)
	if err != nil || sb.Status.Network == nil {
		return nil //nolint:nilerr // as above
	}
	for _, was := range c.Status.Checkpoint.NICs {
		if now, changed := changedNIC(was, sb.NICs()); changed {
			if err := s.deps.Guest.Readdress(ctx, sandboxID, was, now); err != nil {
				return fmt.Errorf("NIC %s: %w", was.Name, err)
			}
		}
	}
	_, err = s.updateContainer(containerID, "guest readdressed", func(st vm.ContainerStatus) (vm.ContainerStatus, error) {
		from := *st.Checkpoint
		from.NICs = nil
		st.Checkpoint = &from
		return st, nil
	})
	return err
}
