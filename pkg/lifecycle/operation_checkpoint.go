// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"

	"github.com/vmlet/vmlet/pkg/revert"
	"github.com/vmlet/vmlet/pkg/vm"
)

// checkpointWhole is the object of a checkpoint's operation from the moment on when the folder is its caller's.
const checkpointWhole = "whole"

// DetachCheckpoint is Checkpoint that returns once the operation is on record, and goes on without its caller; errors are those of
// what cannot begin. CheckpointIn tells what came of it.
func (s *Service) DetachCheckpoint(ctx context.Context, ref, dir string) (vm.OperationInfo, error) {
	var c vm.Checkpoint // in its folder, too
	op, err := s.beginCheckpoint(ctx, ref, dir, &c)
	return s.detached(ctx, op, err)
}

// CheckpointIn reads what a folder holds. NotFound if that is no checkpoint; else as RestorePod finds it.
func (s *Service) CheckpointIn(ctx context.Context, dir string) (vm.Checkpoint, error) {
	return s.deps.Disks.ReadCheckpoint(ctx, dir)
}

// beginCheckpoint begins a checkpoint. out is it when the operation has been answered. It is never joined: the folder is that of
// the call that comes first.
func (s *Service) beginCheckpoint(ctx context.Context, ref, dir string, out *vm.Checkpoint) (*operation, error) {
	a := longCall{kind: vm.OperationCheckpoint, subject: dir, key: newID(), final: notBegun}
	return s.operate(ctx, ref, a, func(ctx context.Context, op *operation) error {
		return s.observed("checkpoint", func() error {
			return s.endable(ctx, op, func(ctx context.Context) error {
				return s.layered(ctx, op, func(ctx context.Context) (err error) {
					*out, err = s.checkpoint(ctx, op.sandboxID, dir)
					return err
				})
			})
		})
	})
}

// endable does work that can be cancelled at any moment: it undoes what it has done when its context ends, be it for that or
// with the service.
func (s *Service) endable(ctx context.Context, op *operation, do func(context.Context) error) error {
	ctx, stop := s.untilClosed(ctx)
	defer stop()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	noMore, wanted := op.mayBeCancelled(func(context.Context) error { end(errCancelled); return nil })
	defer noMore(finalTaken)
	if !wanted {
		return errCancelled
	}
	err := do(ctx)
	if err != nil && op.isCancelled() && !errors.Is(err, revert.ErrIncomplete) {
		return errCancelled
	}
	return err
}

// endWithCaller cancels an operation whose only caller has gone, also one that has not begun.
func (s *Service) endWithCaller(op *operation) {
	op.all.mu.Lock()
	op.cancelled = true
	op.all.mu.Unlock()
	op.cancelNow(s.life)
}
