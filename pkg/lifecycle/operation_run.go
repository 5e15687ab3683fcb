// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/zap"

	"github.com/vmlet/vmlet/pkg/log"
	"github.com/vmlet/vmlet/pkg/revert"
	"github.com/vmlet/vmlet/pkg/vm"
)

// progressLook is the time between two looks at how far an operation is.
const progressLook = 250 * time.Millisecond

// longestError is how much of an operation's error is kept on record.
const longestError = 1 << 10

// goesOnError is what a caller is told whose work has failed for now, and is done again behind it.
type goesOnError struct{ error }

// Unwrap makes it the class that it is.
func (e goesOnError) Unwrap() error { return e.error }

// operate begins long work on the VM that ref names, as in sandboxOf, or joins the same work that is under way. It goes on
// when its caller goes away, for as long as it comes further: do must come to its end when its ctx ends.
//
// do records the intent, and the operation with it: see withOperation. What fails before leaves no operation.
func (s *Service) operate(ctx context.Context, ref string, a longCall, do func(context.Context, *operation) error) (*operation, error) {
	id, err := s.sandboxOf(ref)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", workOf(a.kind, a.subject), err)
	}
	op, first := s.operations.join(id, a, s.now())
	if first {
		s.runOperation(ctx, op, do)
	}
	return op, nil
}

// runOperation does the work of an operation and records how it ended.
func (s *Service) runOperation(ctx context.Context, op *operation, do func(context.Context, *operation) error) {
	ctx, end := context.WithCancelCause(context.WithoutCancel(ctx))
	op.stall = time.AfterFunc(workTimeout, func() { end(errStalled) })
	begun := s.work.Go(func() {
		defer end(nil)
		defer op.stall.Stop()
		_, err := caught(ctx, op.what(), func(ctx context.Context) (string, error) { return "", do(ctx, op) })
		if err != nil && errors.Is(context.Cause(ctx), errStalled) {
			err = fmt.Errorf("%w (%w)", errStalled, err)
		}
		if _, goesOn := errors.AsType[goesOnError](err); goesOn && s.life.Err() == nil {
			op.answer(err)
			op.stall.Stop()
			err = s.seeThrough(op) //nolint:contextcheck // it has the life of the service
		}
		s.endOperation(op, err)
	})
	if !begun {
		op.stall.Stop()
		op.answer(errClosed)
		s.operations.finish(op)
	}
}

// wait returns what the callers of an operation are told.
func (op *operation) wait(ctx context.Context) error {
	select {
	case <-op.answered:
		if op.err != nil {
			return fmt.Errorf("%s of sandbox %s: %w", op.what(), op.sandboxID, op.err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s of sandbox %s goes on without its caller: %w", op.what(), op.sandboxID, ctx.Err())
	}
}

// detached returns an operation once it is on record: from then on it is found again, whatever happens. What is refused
// is an error and no operation.
func (s *Service) detached(ctx context.Context, op *operation, err error) (vm.OperationInfo, error) {
	if err != nil {
		return vm.OperationInfo{}, err
	}
	select {
	case <-op.begun:
	case <-op.answered:
	case <-ctx.Done():
		return vm.OperationInfo{}, op.wait(ctx)
	}
	if !isClosed(op.begun) {
		return vm.OperationInfo{}, op.wait(ctx)
	}
	info, _, err := s.operationInfo(op.record.ID)
	return info, err
}

// layered does work of an operation under the lock of its sandbox's layers: what makes, merges or swaps them, one thing at
// a time. It is taken before the sandbox's lock, and held where that is not: while libvirt or qemu-img move bytes.
func (s *Service) layered(ctx context.Context, op *operation, do func(context.Context) error) error {
	waiting, cancel := context.WithTimeout(ctx, workTimeout)
	defer cancel()
	unlock, err := s.layerLocks.Lock(waiting, op.sandboxID)
	if err != nil {
		return fmt.Errorf("another operation is at its disk: %w", err)
	}
	defer unlock()
	op.alive(workTimeout)
	release := s.operations.hold(op)
	defer release()
	return do(ctx)
}

// withOperation puts the operation that holds the lock of a sandbox's layers on record: part of the change that records
// its intent. object is what recovery knows its outcome by.
func (s *Service) withOperation(st vm.SandboxStatus, sandboxID, object string) vm.SandboxStatus {
	op := s.operations.at(sandboxID)
	if op == nil {
		return st
	}
	st.Operations = slices.Clone(st.Operations)
	if i := slices.IndexFunc(st.Operations, func(o vm.Operation) bool { return o.ID == op.record.ID }); i >= 0 {
		st.Operations[i].Object = object // it is tried once more
		return st
	}
	record := op.record
	record.Object = object
	st.Operations = append(st.Operations, record)
	return st
}

// recordOperation is withOperation for an intent that is not the sandbox's to record.
func (s *Service) recordOperation(sandboxID, object string) error {
	_, err := s.updateSandbox(sandboxID, "operation intended", func(st vm.SandboxStatus) (vm.SandboxStatus, error) {
		return s.withOperation(st, sandboxID, object), nil
	})
	return err
}

// noteOperations tells watchers of operations that have come on record. Every change of a sandbox's record calls it.
func (s *Service) noteOperations(sb vm.Sandbox) {
	for _, record := range s.operations.noted(sb) {
		s.tellOperation(sb.ID, record)
	}
}

func (s *Service) tellOperation(sandboxID string, o vm.Operation) {
	message := string(o.Kind)
	if o.Subject != "" {
		message += " " + o.Subject
	}
	if o.Error != "" {
		message += ": " + o.Error
	}
	s.tell(vm.VMEvent{SandboxID: sandboxID, Kind: vm.OperationEvent, Subject: o.ID, Reason: string(o.State), Message: message})
}

// endOperation records how an operation ended, and tells whoever waits for it. What the end of vmlet has cut short stays
// on record as it is: its next life goes on with it.
func (s *Service) endOperation(op *operation, err error) {
	defer s.operations.finish(op)
	defer op.answer(err)
	if !isClosed(op.begun) || err != nil && s.life.Err() != nil {
		return
	}
	writeErr := s.recordEnd(op, err)
	if writeErr == nil {
		return
	}
	op.answer(err) // the work is done, whatever becomes of its record
	log.From(s.life).Warn("the end of an operation is not on record yet", zap.String("operation", op.record.ID), zap.Error(writeErr))
	again(s.life, "the end of an operation", func(context.Context) error { return s.recordEnd(op, err) })
}

func (s *Service) recordEnd(op *operation, err error) error {
	ended := op.record
	ended.EndedAt, ended.State = s.now(), vm.OperationSucceeded
	switch {
	case err != nil && op.isCancelled() && !errors.Is(err, revert.ErrIncomplete):
		ended.State = vm.OperationCancelled
	case err != nil:
		ended.State = vm.OperationFailed
		ended.Error = err.Error()[:min(len(err.Error()), longestError)]
	}
	_, writeErr := s.updateSandbox(op.sandboxID, "operation ended", func(st vm.SandboxStatus) (vm.SandboxStatus, error) {
		st.Operations = withEnded(st.Operations, ended)
		return st, nil
	})
	if errors.Is(writeErr, errdefs.ErrNotFound) {
		return nil // it went with its sandbox
	}
	if writeErr == nil {
		s.tellOperation(op.sandboxID, ended)
	}
	return writeErr
}

// withEnded returns the operations with one that has ended, without those that have too long ago.
func withEnded(all []vm.Operation, ended vm.Operation) []vm.Operation {
	out := slices.Clone(all)
	over := 0
	for i := range out {
		if out[i].ID == ended.ID {
			out[i] = ended
		}
		if out[i].State != vm.OperationRunning {
			over++
		}
	}
	return slices.DeleteFunc(out, func(o vm.Operation) bool {
		if o.State == vm.OperationRunning || over <= vm.OperationsKept {
			return false
		}
		over--
		return true
	})
}

func operationByID(st vm.SandboxStatus, id string) (vm.Operation, bool) {
	i := slices.IndexFunc(st.Operations, func(o vm.Operation) bool { return o.ID == id })
	if i < 0 {
		return vm.Operation{}, false
	}
	return st.Operations[i], true
}

// track asks again and again how far the operation is that holds the lock of a sandbox's layers, until stop is called.
// One question is under way at a time: a libvirt that hangs holds up no more than that.
func (s *Service) track(ctx context.Context, sandboxID string, ask func(context.Context) (vm.Progress, error)) (stop func()) {
	op := s.operations.at(sandboxID)
	if op == nil {
		return func() {}
	}
	op.anew()
	ctx, cancel := context.WithCancel(ctx)
	look := time.NewTicker(progressLook)
	go func() {
		defer look.Stop()
		for {
			select {
			case <-look.C:
			case <-ctx.Done():
				return
			}
			p, err := ask(ctx)
			if err != nil {
				log.From(ctx).Debug("it is not known how far an operation is", zap.String("operation", op.record.ID), zap.Error(err))
				continue
			}
			op.advance(p)
		}
	}()
	return cancel
}

// untilClosed ends with ctx, and with the service: for what libvirt goes on with by itself.
func (s *Service) untilClosed(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(s.life, func() { cancel(errNextLife) })
	return ctx, func() { stop(); cancel(nil) }
}
