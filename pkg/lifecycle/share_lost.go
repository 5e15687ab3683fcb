// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/zap"

	"github.com/vmlet/vmlet/pkg/log"
	"github.com/vmlet/vmlet/pkg/vm"
)

// repairTimeout bounds one try to repair a share, of which the guest may take all: what is
// mounted of a dead share may hold up whoever touches it.
const repairTimeout = time.Minute

// repairShare gives a guest whose share has lost its virtiofsd another one. It does not hold
// the sandbox's lock, since it waits for the guest: a VM that ends meanwhile is found so by
// the next try. lost says that it is to be mounted anew, whoever serves it by then.
func (s *Service) repairShare(ctx context.Context, sandboxID string, lost bool) {
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
	return ok && c.Status.Runs() && len(c.Status.Shares) > 0
}

func (s *Service) tryRepairShare(ctx context.Context, sandboxID string, lost *bool) error {
	ctx, cancel := context.WithTimeout(ctx, repairTimeout)
	defer cancel()
	unlock, err := s.shareLocks.Lock(ctx, sandboxID) // a snapshot's, while the share is away for it
	if err != nil {
		return err
	}
	defer unlock()
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
	return s.giveShare(ctx, sb, c)
}

// shareOnce sees to it that the guest has its share, and has mounted it.
func (s *Service) shareOnce(ctx context.Context, sb vm.Sandbox, c vm.Container) error {
	unlock, err := s.shareLocks.Lock(ctx, sb.ID)
	if err != nil {
		return err
	}
	defer unlock()
	return s.giveShare(ctx, sb, c)
}

// giveShare is shareOnce under the share's lock: a recovery and an event, or a boot, may find a loss at once, and only one
// of them plugs.
//
// The guest is asked only after that: to touch a mount whose virtiofsd is dead, even to unmount it, is to wait for an
// answer for ever, and keeps the device from being unplugged. Mounting replaces what is mounted of the old device.
func (s *Service) giveShare(ctx context.Context, sb vm.Sandbox, c vm.Container) error {
	pids, err := s.deps.Hypervisor.HelperPIDs(ctx, sb.ID)
	if err == nil && len(pids) == 0 {
		if err = s.deps.Hypervisor.ReplugShare(ctx, sb.ID); err == nil {
			err = s.placeHelpers(ctx, sb)
		}
	}
	if err != nil {
		return fmt.Errorf("the guest's share: %w", err)
	}
	if err := s.deps.Guest.MountShares(ctx, sb.ID, namespaceOf(c), c.Status.Shares); err != nil {
		return fmt.Errorf("mount shares in the guest: %w", err)
	}
	return nil
}
