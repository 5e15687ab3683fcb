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
	"github.com/vmlet/vmlet/pkg/revert"
	"github.com/vmlet/vmlet/pkg/vm"
)

const (
	// freezePatience is how long a guest may take to write what it has and to freeze its file systems.
	freezePatience = 20 * time.Second
	// mostFrozen is how long they may stay so: vmlet-agent thaws them then, whatever has become of vmlet.
	mostFrozen = 15 * time.Second
	// thawPatience is how long a guest may take to thaw them before it is asked again in the background.
	thawPatience = 10 * time.Second
)

// mayQuiesce refuses a snapshot with frozen file systems of a guest that cannot freeze them.
func mayQuiesce(c vm.Container, req vm.SnapshotRequest) error {
	switch {
	case !req.Quiesce:
	case req.Memory:
		return fmt.Errorf("its memory has what is not written yet: file systems are frozen for a snapshot of the disk alone: %w", errdefs.ErrInvalidArgument)
	case !c.Status.Runs():
		return fmt.Errorf("no guest runs whose file systems could be frozen; what it had written when it ended is on its disk, take the snapshot without: %w", errdefs.ErrFailedPrecondition)
	case c.Status.Paused:
		return fmt.Errorf("it is paused, and cannot freeze its file systems; resume it first: %w", errdefs.ErrFailedPrecondition)
	}
	return nil
}

// quiesced does something in a moment in which the guest's file systems are frozen, if the snapshot wants that. They are
// thawed afterwards, come what may: by us, also after a restart (see thawLater), and by vmlet-agent itself when mostFrozen
// has passed or its session has ended. FailedPrecondition where they cannot be frozen, and nothing is done; and where they were
// not to the end, whatever was done.
func (s *Service) quiesced(ctx context.Context, snap vm.Snapshot, sandboxID string, do func(context.Context) error) (err error) {
	if snap.Consistency != vm.ConsistencyFiles {
		return do(ctx)
	}
	frozen, err := s.freeze(ctx, sandboxID)
	if err != nil {
		s.thawLater(sandboxID) //nolint:contextcheck // it may have come to be frozen
		return cannotQuiesce(err)
	}
	late := time.AfterFunc(mostFrozen, func() { //nolint:contextcheck // qemu-guest-agent knows no limit of its own
		s.whileItRuns(sandboxID, "file systems that are frozen for too long", func(ctx context.Context) error { return s.thaw(ctx, sandboxID) })
	})
	defer late.Stop()
	rev := revert.New(ctx)
	defer rev.Fail(&err) //nolint:contextcheck // it has ctx since New
	rev.Add("thaw", func(ctx context.Context) error {
		if err := s.thaw(ctx, sandboxID); err != nil {
			s.thawLater(sandboxID) //nolint:contextcheck // it outlives the call
		}
		return nil
	})
	if err := do(ctx); err != nil {
		return err
	}
	thawing, cancel := context.WithTimeout(ctx, thawPatience)
	defer cancel()
	switch thawed, err := s.deps.Guest.Thaw(thawing, sandboxID); {
	case err != nil:
		return cannotQuiesce(fmt.Errorf("whether they were frozen to the end is not known: %w", err))
	case thawed != frozen:
		return cannotQuiesce(fmt.Errorf("%d of %d were frozen to the end: %w", thawed, frozen, errdefs.ErrFailedPrecondition))
	}
	rev.Success()
	return nil
}

// freeze returns how many file systems are frozen.
func (s *Service) freeze(ctx context.Context, sandboxID string) (frozen int, err error) {
	ctx, cancel := context.WithTimeout(ctx, freezePatience)
	defer cancel()
	if frozen, err = s.deps.Guest.Freeze(ctx, sandboxID, mostFrozen); err == nil && frozen == 0 {
		err = fmt.Errorf("it has none that can be: %w", errdefs.ErrFailedPrecondition)
	}
	return frozen, err
}

// cannotQuiesce is FailedPrecondition for whatever reason.
func cannotQuiesce(err error) error {
	const text = "the guest's file systems cannot be frozen for it; a snapshot without that is possible"
	if errdefs.IsFailedPrecondition(err) {
		return fmt.Errorf("%s: %w", text, err)
	}
	return fmt.Errorf("%s: %s: %w", text, err.Error(), errdefs.ErrFailedPrecondition) // an agent that is silent is none
}

// thawLater thaws a guest's file systems in the background, until it says that it has or its VM has ended: after a crash of
// ours nobody knows whether they are frozen. It keeps out of the next snapshot's way.
func (s *Service) thawLater(sandboxID string) {
	s.whileItRuns(sandboxID, "file systems that may be frozen", func(ctx context.Context) error {
		unlock, err := s.layerLocks.Lock(ctx, sandboxID)
		if err != nil {
			return err
		}
		defer unlock()
		return s.thaw(ctx, sandboxID)
	})
}

func (s *Service) thaw(ctx context.Context, sandboxID string) error {
	ctx, cancel := context.WithTimeout(ctx, thawPatience)
	defer cancel()
	_, err := s.deps.Guest.Thaw(ctx, sandboxID)
	if errors.Is(err, errdefs.ErrNotImplemented) {
		return nil // nor could it have frozen them
	}
	return err
}

// whileItRuns does something in the background until it succeeds, as long as the VM that runs in a sandbox does.
func (s *Service) whileItRuns(sandboxID, what string, do func(context.Context) error) {
	s.work.Go(func() {
		again(log.With(s.life, zap.String("sandbox", sandboxID)), what, func(ctx context.Context) error {
			c, live := s.liveContainer(sandboxID)
			if !live || !c.Status.Runs() {
				return nil
			}
			return do(ctx)
		})
	})
}
