// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/zap"

	"github.com/vmlet/vmlet/pkg/log"
	"github.com/vmlet/vmlet/pkg/vm"
)

// repairTimeout bounds one try to repair a share, of which the guest may take all: what is
// mounted of a dead share may hold up whoever touches it.
const repairTimeout = time.Minute

// repairShare gives a guest whose share has lost its virtiofsd another one. It holds no
// lock, since it waits for the guest: a VM that ends meanwhile is found so by the next try.
func (s *Service) repairShare(ctx context.Context, sandboxID string) {
	lost := false // once it was, it has to be mounted anew, whoever serves it by then
	again(ctx, "the guest's share has no virtiofsd", func(ctx context.Context) error {
		err := s.tryRepairShare(ctx, sandboxID, &lost)
		if errors.Is(err, errdefs.ErrFailedPrecondition) && s.sharing(sandboxID) {
			log.From(ctx).Error("the guest's share is lost until the guest reboots", zap.Error(err))
			return nil
		}
		return err
	})
}

// sharing tells whether a VM runs in the sandbox that has a share.
func (s *Service) sharing(sandboxID string) bool {
	c, ok := s.liveContainer(sandboxID)
	return ok && c.Status.State == vm.ContainerRunning && len(c.Status.Shares) > 0
}

func (s *Service) tryRepairShare(ctx context.Context, sandboxID string, lost *bool) error {
	ctx, cancel := context.WithTimeout(ctx, repairTimeout)
	defer cancel()
	c, ok := s.liveContainer(sandboxID)
	if !ok || !s.sharing(sandboxID) {
		return nil
	}
	sb, err := s.deps.Store.Sandboxes.Get(sandboxID)
	if err != nil {
		return err
	}
	pids, err := s.deps.Hypervisor.HelperPIDs(ctx, sandboxID)
	if err != nil || len(pids) > 0 && !*lost {
		return err
	}
	if !*lost {
		*lost = true
		log.From(ctx).Warn("the guest's share has lost its virtiofsd and gets another one")
	}
	// The guest is asked only afterwards: to touch a mount whose virtiofsd is dead, even to
	// unmount it, is to wait for an answer for ever, and keeps the device from being
	// unplugged. Mounting replaces what is mounted of the old device.
	if err := s.ensureShare(ctx, sb); err != nil {
		return err
	}
	return s.deps.Guest.MountShares(ctx, sandboxID, namespaceOf(c), c.Status.Shares)
}

// ensureShare sees to it that a virtiofsd serves the guest's share.
func (s *Service) ensureShare(ctx context.Context, sb vm.Sandbox) error {
	pids, err := s.deps.Hypervisor.HelperPIDs(ctx, sb.ID)
	if err != nil || len(pids) > 0 {
		return err
	}
	if err := s.deps.Hypervisor.ReplugShare(ctx, sb.ID); err != nil {
		return err
	}
	return s.placeHelpers(ctx, sb)
}
