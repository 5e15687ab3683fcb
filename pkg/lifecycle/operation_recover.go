// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"slices"

	"github.com/vmlet/vmlet/pkg/vm"
)

// resumeOperations finds the operations of a sandbox that an earlier life had under way. go on is called when the rest of
// the sandbox is recovered. Before the sandbox's lock: one that libvirt may still be at has the lock of the layers from the
// beginning, so that no call finds its snapshot and undoes it.
func (s *Service) resumeOperations(ctx context.Context, sb vm.Sandbox) (goOn func(), err error) {
	var resume []func()
	for _, o := range sb.Status.Operations {
		if o.State != vm.OperationRunning {
			continue
		}
		op := s.operations.resume(sb.ID, o, finalOf(o.Kind))
		do := func(_ context.Context, op *operation) error { return s.seeThrough(op) } //nolint:contextcheck // it has the life of the service
		if adoptable(s.treesOf(sb), o) {
			unlock, err := s.layerLocks.Lock(ctx, sb.ID)
			if err != nil {
				return nil, err
			}
			release := s.operations.hold(op)
			do = func(ctx context.Context, op *operation) error {
				defer unlock()
				defer release()
				return s.adoptSnapshot(ctx, op)
			}
		}
		resume = append(resume, func() { s.runOperation(s.life, op, do) })
	}
	return func() {
		for _, one := range resume {
			one()
		}
	}, nil
}

// recoverLayers undoes a snapshot that was cut short, and merges layers that nothing needs, unless an operation does.
func (s *Service) recoverLayers(ctx context.Context, sb vm.Sandbox) error {
	if s.adopting(sb) {
		return nil
	}
	err := s.undoSnapshotLocked(ctx, sb.ID)
	if err == nil {
		sb, err = s.undoCheckpoints(sb)
	}
	if err != nil {
		s.undoSnapshotLater(sb.ID) //nolint:contextcheck // it outlives the recovery
		return err
	}
	deleting := func(o vm.Operation) bool {
		return o.Kind == vm.OperationSnapshotDelete && o.State == vm.OperationRunning
	}
	if s.untidySandbox(sb) && !slices.ContainsFunc(sb.Status.Operations, deleting) {
		s.tidyLater(sb.ID) //nolint:contextcheck // as above
	}
	return nil
}

// adoptable tells whether libvirt may be at a snapshot still that an operation takes.
func adoptable(trees []diskTree, o vm.Operation) bool {
	_, snap, there := snapshotOf(trees, o.Object)
	return o.Kind == vm.OperationSnapshotCreate && there && snap.State == vm.SnapshotCreating && snap.Memory != nil
}

// adopting tells whether a snapshot that is being taken has an operation that goes on with it.
func (s *Service) adopting(sb vm.Sandbox) bool {
	for _, o := range sb.Status.Operations {
		if o.State == vm.OperationRunning && adoptable(s.treesOf(sb), o) {
			return true
		}
	}
	return false
}

// finalOf says why an operation of a kind cannot be cancelled while nothing else is known of it.
func finalOf(kind vm.OperationKind) string {
	switch kind {
	case vm.OperationSnapshotRestore:
		return finalRestore
	case vm.OperationSnapshotDelete:
		return finalDelete
	case vm.OperationCheckpoint:
		return finalUndone
	case vm.OperationSnapshotCreate:
	}
	return notBegun
}
