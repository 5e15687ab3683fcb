// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
	"go.uber.org/zap"

	"github.com/vmlet/vmlet/pkg/log"
	"github.com/vmlet/vmlet/pkg/vm"
)

// diskAction is what is to be done about a data disk whose record and machine were looked at.
type diskAction string

const (
	diskKeep         diskAction = "keep"
	diskFinishAttach diskAction = "finish the attach"
	diskFinishDetach diskAction = "finish the detach"
	diskStays        diskAction = "keep it attached"
	diskLetGo        diskAction = "the guest has let go of it late"
	diskFinishGrowth diskAction = "finish the resize"
)

// decideDisk says what to do about a data disk. live is the machine that runs, by target, nil if none does; awaited says
// that somebody waits for the guest to let go of a disk. Pure.
func decideDisk(d vm.DataDisk, live map[string]vm.LiveDisk, awaited bool) diskAction {
	there, plugged := live[d.Target]
	switch d.State {
	case vm.DataDiskAttaching:
		return diskFinishAttach
	case vm.DataDiskDetaching:
		switch {
		case !plugged:
			return diskFinishDetach
		case !awaited:
			return diskStays // who asked for it was not told that it is done
		}
	case vm.DataDiskAttached:
		switch {
		case live != nil && !plugged:
			return diskLetGo
		case plugged && d.Own() && there.Size < d.Size:
			return diskFinishGrowth
		}
	case vm.DataDiskDetached:
	}
	return diskKeep
}

// settleDisks makes records and machine agree on the disks of a sandbox, after a crash, a lost connection, or news of
// a device. Under the sandbox's lock. Each step can be done again.
func (s *Service) settleDisks(ctx context.Context, sandboxID string) error {
	sb, err := s.deps.Store.Sandboxes.Get(sandboxID)
	if errors.Is(err, errdefs.ErrNotFound) || err == nil && sb.Status.State != vm.SandboxReady {
		return nil // what is left of them goes with the sandbox
	}
	if err != nil {
		return err
	}
	if err := s.settleRoots(ctx, sb); err != nil || len(sb.Status.DataDisks) == 0 {
		return err
	}
	live, err := s.liveDisks(ctx, sandboxID)
	if err != nil {
		return err
	}
	var errs []error
	for _, d := range sb.Status.DataDisks {
		action := decideDisk(d, live, s.unplugs.awaited(sandboxID))
		if action == diskKeep {
			continue
		}
		log.From(ctx).Info("data disk", zap.String("sandbox", sandboxID), zap.String("disk", d.Name), zap.String("action", string(action)))
		if err := s.settleDisk(ctx, sandboxID, d, action); err != nil {
			errs = append(errs, fmt.Errorf("data disk %q: %s: %w", d.Name, action, err))
		}
	}
	return errors.Join(errs...)
}

func (s *Service) settleDisk(ctx context.Context, sandboxID string, d vm.DataDisk, action diskAction) error {
	switch action {
	case diskFinishAttach:
		return s.finishAttach(ctx, sandboxID, d)
	case diskFinishDetach:
		return s.finishDetach(ctx, sandboxID, d)
	case diskLetGo:
		d.Delete = false // nobody was told that it is gone
		return s.finishDetach(ctx, sandboxID, d)
	case diskStays:
		d.State, d.Delete = vm.DataDiskAttached, false
		_, err := s.recordDataDisk(sandboxID, "data disk stays", d)
		return err
	case diskFinishGrowth:
		return s.deps.Hypervisor.ResizeDisk(ctx, sandboxID, d.Target, d.Size)
	case diskKeep:
	}
	return nil
}

// finishAttach goes on with an attach, or takes it back where it cannot be.
func (s *Service) finishAttach(ctx context.Context, sandboxID string, d vm.DataDisk) error {
	if err := s.plugDataDisk(ctx, sandboxID, d); err != nil {
		if errdefs.IsUnavailable(err) || ctx.Err() != nil {
			return err
		}
		log.From(ctx).Warn("a disk that was to be attached could not be", zap.String("sandbox", sandboxID), zap.String("disk", d.Name), zap.Error(err))
		return s.undoAttach(ctx, sandboxID, d, true)
	}
	d.State = vm.DataDiskAttached
	_, err := s.recordDataDisk(sandboxID, "data disk attached", d)
	return err
}

// changing tells whether a data disk is on its way into the machine or out of it.
func changing(sb vm.Sandbox) bool {
	return slices.ContainsFunc(sb.Status.DataDisks, func(d vm.DataDisk) bool {
		return d.State == vm.DataDiskAttaching || d.State == vm.DataDiskDetaching
	})
}

// endDiskChanges finishes what was begun with the data disks of a VM that does not run, before it starts: a disk that is not
// attached any more is still in its definition, and with a file that it may have left to a snapshot since. Under the
// sandbox's lock.
func (s *Service) endDiskChanges(ctx context.Context, sb vm.Sandbox) (vm.Sandbox, error) {
	if !changing(sb) {
		return sb, nil
	}
	if err := s.settleDisks(ctx, sb.ID); err != nil {
		return sb, err
	}
	return s.deps.Store.Sandboxes.Get(sb.ID)
}

// settleDisksLater is settleDisks until it succeeds, for whom it is too late to wait.
func (s *Service) settleDisksLater(sandboxID string) {
	ctx := log.With(s.life, zap.String("sandbox", sandboxID))
	s.work.Go(func() {
		again(ctx, "the data disks of a VM", func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, settleTimeout)
			defer cancel()
			unlock, err := s.locks.Lock(ctx, sandboxID)
			if err != nil {
				return err
			}
			defer unlock()
			return s.settleDisks(ctx, sandboxID)
		})
	})
}

// hearOfDisks looks at the data disks of a sandbox, or of all for "", when something was told of its machine's devices.
func (s *Service) hearOfDisks(sandboxID string) {
	s.unplugs.tell(sandboxID)
	for _, sb := range s.deps.Store.Sandboxes.All() {
		if len(sb.Status.DataDisks) > 0 && (sandboxID == "" || sb.ID == sandboxID) {
			s.settleDisksLater(sb.ID)
		}
	}
}
