// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/zap"

	"github.com/vmlet/vmlet/pkg/annotations"
	"github.com/vmlet/vmlet/pkg/log"
	"github.com/vmlet/vmlet/pkg/revert"
	"github.com/vmlet/vmlet/pkg/vm"
)

// shareAgentPatience is how long a guest's agent may take to answer before its memory is not taken: it has to unmount the
// share first.
const shareAgentPatience = 5 * time.Second

// mayGoWithoutShare refuses the memory of a guest that has a share and cannot be without it for a moment: QEMU cannot save
// the state of a virtiofs device.
func (s *Service) mayGoWithoutShare(sb vm.Sandbox, c vm.Container) error {
	if len(c.Status.Shares) == 0 {
		return nil
	}
	ask, err := annotations.Parse(sb.Spec.AllSettings())
	if err != nil || !c.Spec.HasMain() && !s.hasAgentPort(ask) {
		return noAgentForShare(c, "the machine has no port for vmlet-agent")
	}
	if c.Status.Paused {
		return fmt.Errorf("the guest has %s by a virtiofs device, which it has to unmount first, and it is paused; resume it, or take a snapshot of the disk alone: %w",
			c.Status.Shares[0].GuestPath, errdefs.ErrFailedPrecondition)
	}
	return nil
}

func noAgentForShare(c vm.Container, why string) error {
	return fmt.Errorf("the guest has %s by a virtiofs device (%d mounts), whose state QEMU cannot save, and only vmlet-agent in it could unmount that first: %s; take a snapshot of the disk alone: %w",
		c.Status.Shares[0].GuestPath, len(c.Status.Shares), why, errdefs.ErrFailedPrecondition)
}

// withoutShare does something while the guest has not got its share: it is unmounted, and its device unplugged, before,
// and both come back after it, however that ends, and also when we are killed meanwhile: whoever attends the guest next
// sees to its share. FailedPrecondition, with who uses what, where the guest uses the share. Nobody else touches the share
// meanwhile; the sandbox's lock is not held, since the guest is waited for.
func (s *Service) withoutShare(ctx context.Context, sb vm.Sandbox, c vm.Container, do func(context.Context) error) (err error) {
	if len(c.Status.Shares) == 0 {
		return do(ctx)
	}
	unlock, err := s.shareLocks.Lock(ctx, sb.ID)
	if err != nil {
		return err
	}
	defer unlock()
	awaiting, cancel := context.WithTimeout(ctx, shareAgentPatience)
	defer cancel()
	if _, err := s.deps.Guest.AwaitAgent(awaiting, sb.ID); err != nil {
		return errors.Join(noAgentForShare(c, "none answers"), err)
	}
	rev := revert.New(ctx)
	defer func() {
		// Also after a success: that is how the share comes back.
		rev.Fail(&err) //nolint:contextcheck // it has ctx since New
		if errors.Is(err, revert.ErrIncomplete) {
			log.From(ctx).Error("a guest's share has not come back after a snapshot yet", zap.String("sandbox", sb.ID), zap.Error(err))
			s.work.Go(func() { s.repairShare(log.With(s.life, zap.String("sandbox", sb.ID)), sb.ID, true) }) //nolint:contextcheck // it outlives the call
		}
	}()
	rev.Add("share unmount", func(ctx context.Context) error {
		if !s.sharing(sb.ID) {
			return nil // the next boot has it
		}
		return s.giveShare(ctx, sb, c)
	})
	if err := s.deps.Guest.UnmountShares(ctx, sb.ID); err != nil {
		return err
	}
	if err := s.deps.Hypervisor.UnplugShare(ctx, sb.ID); err != nil {
		return err
	}
	rev.Add("share unplug", func(context.Context) error { return nil }) // plugging is a part of the step above
	return do(ctx)
}
