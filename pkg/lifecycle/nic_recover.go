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

// nicAction is what is done about a NIC that nobody works on.
type nicAction string

const (
	nicKeep nicAction = "keep"
	// nicFinish: CNI has given it, so the machine gets it.
	nicFinish nicAction = "finish the attaching"
	// nicUndo: nobody knows what CNI has done for it.
	nicUndo nicAction = "undo the attaching"
	// nicDetach: the guest has what is left of its time.
	nicDetach nicAction = "go on with the detaching"
)

// decideNIC says what to do about a NIC after a restart, or when libvirt is back. Pure.
func decideNIC(n vm.AttachedNIC) nicAction {
	switch n.State {
	case vm.NICAttaching:
		if n.NIC == nil {
			return nicUndo
		}
		return nicFinish
	case vm.NICDetaching:
		if n.Undo {
			return nicUndo
		}
		return nicDetach
	case vm.NICAttached:
	}
	return nicKeep
}

// leastDetach is what a guest has at least to let go of a NIC after a restart of vmlet.
const leastDetach = 5 * time.Second

// settleNICs finishes or undoes what was begun with the NICs of all sandboxes, and finds out which of them guests have let
// go of. It does not wait.
func (s *Service) settleNICs(ctx context.Context) {
	for _, sb := range s.deps.Store.Sandboxes.List() {
		if sb.Status.State != vm.SandboxReady || len(sb.Status.NICs) == 0 {
			continue
		}
		ctx := log.With(ctx, zap.String("sandbox", sb.ID))
		for _, n := range sb.Status.NICs {
			if decideNIC(n) != nicKeep {
				s.work.Go(func() {
					again(ctx, "a NIC of the VM", func(ctx context.Context) error { return s.settleNIC(ctx, sb.ID, n.Spec.Name) })
				})
			} else {
				s.lookForNIC(ctx, sb.ID, n.NIC.Tap)
			}
		}
	}
}

func (s *Service) settleNIC(ctx context.Context, sandboxID, name string) error {
	return s.withNIC(ctx, sandboxID, name, func(ctx context.Context) error {
		n, err := s.nicOnRecord(sandboxID, name)
		if err != nil || n == nil {
			return err
		}
		if sb, err := s.deps.Store.Sandboxes.Get(sandboxID); err != nil || sb.Status.State != vm.SandboxReady {
			return err // who stops it ends its NICs
		}
		action := decideNIC(*n)
		if action != nicKeep {
			log.From(ctx).Info("recover", zap.String("nic", name), zap.String("state", string(n.State)), zap.String("action", string(action)))
		}
		switch action {
		case nicFinish:
			_, err := s.attachNIC(ctx, sandboxID, n.Spec, nil)
			return err
		case nicUndo:
			return s.takeBackNIC(ctx, sandboxID, name)
		case nicDetach:
			err := s.detachNIC(ctx, sandboxID, name, max(leastDetach, n.Deadline.Sub(s.now())))
			if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
				log.From(ctx).Warn("the guest did not let go of a NIC, which stays", zap.String("nic", name), zap.Error(err))
				return nil
			}
			return err
		case nicKeep:
		}
		return nil
	})
}

// lookForNIC looks whether a running machine still has a NIC, and puts it on record.
func (s *Service) lookForNIC(ctx context.Context, sandboxID, tap string) {
	s.work.Go(func() {
		again(ctx, "whether the guest has let go of a NIC", func(ctx context.Context) error { return s.agreeOnNIC(ctx, sandboxID, tap) })
	})
}

func (s *Service) agreeOnNIC(ctx context.Context, sandboxID, tap string) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	unlock, err := s.locks.Lock(ctx, sandboxID)
	if err != nil {
		return err
	}
	defer unlock()
	sb, err := s.deps.Store.Sandboxes.Get(sandboxID)
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, n := range sb.Status.NICs {
		if !n.InMachine() || n.NIC.Tap != tap {
			continue
		}
		d, err := s.deps.Hypervisor.Domain(ctx, sandboxID)
		if err != nil || !d.State.Active() {
			return err
		}
		has, err := s.deps.Hypervisor.HasNIC(ctx, sandboxID, *n.NIC)
		if err != nil || n.Unplugged == !has {
			return err
		}
		if n.Unplugged = !has; n.Unplugged {
			log.From(ctx).Warn("the guest has let go of a NIC that it was no longer waited for; attach it again, or detach it", zap.String("nic", n.Spec.Name))
		}
		_, err = s.recordNIC(sandboxID, "NIC unplugged", n)
		return err
	}
	return nil
}
