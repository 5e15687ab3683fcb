// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// cancelLook is the time between two tries to cancel: what is to be ended may be about to begin.
const cancelLook = 100 * time.Millisecond

// Operations lists the operations of a VM, or of all for "", oldest first: those under way, and the last that have ended.
// ref is as in sandboxOf.
func (s *Service) Operations(ref string) ([]vm.OperationInfo, error) {
	of := ""
	if ref != "" {
		id, err := s.sandboxOf(ref)
		if err != nil {
			return nil, fmt.Errorf("list operations: %w", err)
		}
		of = id
	}
	var out []vm.OperationInfo
	for _, sb := range s.Sandboxes() {
		if of == "" || sb.ID == of {
			for _, o := range sb.Status.Operations {
				out = append(out, s.infoOf(sb, o))
			}
		}
	}
	slices.SortStableFunc(out, func(a, b vm.OperationInfo) int { return a.StartedAt.Compare(b.StartedAt) })
	return out, nil
}

// Operation returns one operation by its ID or the unique beginning of one. ref may be "".
func (s *Service) Operation(ref, id string) (vm.OperationInfo, error) {
	all, err := s.Operations(ref)
	if err != nil {
		return vm.OperationInfo{}, err
	}
	var found []vm.OperationInfo
	for _, o := range all {
		if strings.HasPrefix(o.ID, id) && id != "" {
			found = append(found, o)
		}
	}
	switch len(found) {
	case 0:
		return vm.OperationInfo{}, fmt.Errorf("operation %q: %w", id, errdefs.ErrNotFound)
	case 1:
		return found[0], nil
	}
	return vm.OperationInfo{}, fmt.Errorf("operation %q is the beginning of %d IDs, such as %s and %s; give more digits: %w",
		id, len(found), found[0].ID, found[1].ID, errdefs.ErrInvalidArgument)
}

// infoOf is an operation on record, with what is known of it while it is under way.
func (s *Service) infoOf(sb *vm.Sandbox, o vm.Operation) vm.OperationInfo {
	info := vm.OperationInfo{Operation: o, SandboxID: sb.ID, Namespace: sb.Spec.Namespace, Pod: sb.Spec.Name}
	if op := s.operations.byID(o.ID); op != nil && o.State == vm.OperationRunning {
		info.Progress, info.Cancellable, _ = op.seen()
	}
	return info
}

// operationInfo is an operation by its whole ID, and what is closed when it is further; nil for one that is not under way.
func (s *Service) operationInfo(id string) (vm.OperationInfo, <-chan struct{}, error) {
	var changed <-chan struct{}
	if op := s.operations.byID(id); op != nil {
		_, _, changed = op.seen() // before it is read: what comes between the two is seen
	}
	for _, sb := range s.Sandboxes() {
		if o, ok := operationByID(sb.Status, id); ok {
			return s.infoOf(sb, o), changed, nil
		}
	}
	return vm.OperationInfo{}, nil, fmt.Errorf("operation %q went with its sandbox: %w", id, errdefs.ErrNotFound)
}

// WatchOperation sends an operation as it is, then each time it is further, and in the end how it ended. What send returns
// ends the watch; send may block, which holds up nobody. ref and id are as in Operation.
//
// Unavailable where vmlet ends first: the operation goes on after its next start.
func (s *Service) WatchOperation(ctx context.Context, ref, id string, send func(vm.OperationInfo) error) error {
	first, err := s.Operation(ref, id)
	if err != nil {
		return err
	}
	op := s.operations.byID(first.ID)
	for {
		over := op == nil || isClosed(op.done)
		info, changed, err := s.operationInfo(first.ID)
		if err != nil {
			return err
		}
		if over && info.State == vm.OperationRunning {
			return fmt.Errorf("operation %s: %w", first.ID, errNextLife)
		}
		if err := send(info); err != nil || info.State != vm.OperationRunning {
			return err
		}
		select {
		case <-changed:
		case <-op.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// CancelOperation ends an operation that can be without loss, and returns when it has: nothing is left of it, and the VM
// runs on as if it had never begun. One that was cancelled before is a success. ref and id are as in Operation. A caller
// that goes away leaves the cancel under way.
//
// FailedPrecondition for one that has ended otherwise, or that must come to its end, with the reason.
func (s *Service) CancelOperation(ctx context.Context, ref, id string) (vm.OperationInfo, error) {
	info, err := s.Operation(ref, id)
	if err != nil {
		return info, err
	}
	if op := s.operations.byID(info.ID); op != nil {
		if err := s.cancelOperation(ctx, op); err != nil {
			return info, fmt.Errorf("cancel operation %s, %s of sandbox %s: %w", info.ID, op.what(), info.SandboxID, err)
		}
	}
	info, _, err = s.operationInfo(info.ID)
	switch {
	case err != nil:
		return info, err
	case info.State == vm.OperationRunning:
		return info, fmt.Errorf("operation %s: %w", info.ID, errNextLife)
	case info.State != vm.OperationCancelled:
		return info, fmt.Errorf("operation %s has %s already: %w", info.ID, info.State, errdefs.ErrFailedPrecondition)
	}
	return info, nil
}

// cancelOperation has an operation end, and waits for it.
func (s *Service) cancelOperation(ctx context.Context, op *operation) error {
	op.all.mu.Lock()
	cancel, why := op.cancel, op.why
	op.cancelled = op.cancelled || cancel != nil
	op.all.mu.Unlock()
	if cancel == nil {
		return fmt.Errorf("it cannot be cancelled: %s: %w", why, errdefs.ErrFailedPrecondition)
	}
	s.work.Go(func() {
		look := time.NewTicker(cancelLook)
		defer look.Stop()
		for op.cancelNow(s.life) {
			select {
			case <-look.C:
			case <-op.done:
				return
			}
		}
	})
	select {
	case <-op.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the cancel goes on without its caller: %w", ctx.Err())
	}
}

// cancelNow ends what the operation does now; false once it does nothing any more that can be ended.
func (op *operation) cancelNow(ctx context.Context) bool {
	op.all.mu.Lock()
	cancel := op.cancel
	op.all.mu.Unlock()
	if cancel == nil || ctx.Err() != nil {
		return false
	}
	// An error is no end: where it was not heard it is asked again, and where the work is done that is told.
	_ = cancel(ctx) //nolint:errcheck // as above
	return true
}
