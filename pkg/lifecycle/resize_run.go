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

// A resize goes this way, the last step in resize_end.go:
//
//	beginResize   under the lock: the intent and the limits are recorded, the group gets room for both sizes,
//	              the guest is told of its memory
//	awaitMemory   without the lock, until the guest has followed or it is too late
//	endResize     under the lock: CPUs are added, to the definition too, which gets what else was reached, and so do the
//	              record and the group
//
// What cannot be done in full is kept as far as it went or, for a resize that is whole or not at all, undone in the same
// way: the guest is told of its former memory and waited for.
//
// Each step can be done again. The intent stays on record until the end, so after a crash all of it is.

// breath is what a guest has back that could not give all that it was asked for: it has come down to what it uses, and would
// kill processes for the next page. In bytes.
const breath = 32 * vm.MiB

// giveUpWait is how long a guest is waited for to go back to the memory that it had.
const giveUpWait = 20 * time.Second

// notYetWait is the time between two tries to add CPUs where there is no room for them just now.
const notYetWait = 300 * time.Millisecond

var (
	// errNotYet is what may be possible a little later.
	errNotYet   = errors.New("not yet")
	errResizing = fmt.Errorf("it is being resized: %w", errdefs.ErrUnavailable)
	// errNotWhole is in the error of a resize that was undone.
	errNotWhole = errors.New("all is as it was")
	// errEnded is a VM that has ended while it was resized.
	errEnded = fmt.Errorf("the VM has ended meanwhile: %w", errdefs.ErrFailedPrecondition)
)

// shortfall says why a machine has not been given all; nil where it has.
type shortfall struct{ cpus, memory error }

// termsOf is what a machine's size and limits follow from now.
func termsOf(sb vm.Sandbox, c vm.Container) vm.ResizeTerms {
	return vm.ResizeTerms{Limits: c.Status.Resources, PodLimits: sb.Status.Resources, Overhead: sb.Status.Overhead, Asked: c.Status.Asked}
}

func (s *Service) newResize(sb vm.Sandbox, c vm.Container, to vm.MachineSize, terms vm.ResizeTerms, wait time.Duration) vm.ResizeIntent {
	now := s.now()
	return vm.ResizeIntent{
		ID: newID(), From: c.Status.Size, To: to, Was: termsOf(sb, c), Next: terms, Begun: now, Deadline: now.Add(wait),
	}
}

// wholeResize is one that is done in full or not at all.
func (s *Service) wholeResize(sb vm.Sandbox, c vm.Container, to vm.MachineSize, terms vm.ResizeTerms) vm.ResizeIntent {
	intent := s.newResize(sb, c, to, terms, resizeWait)
	intent.Whole = true
	return intent
}

// beginResize records the intent and begins with it. Under the sandbox's lock. After an error all is as it was.
func (s *Service) beginResize(ctx context.Context, sb vm.Sandbox, c vm.Container, intent vm.ResizeIntent) (err error) {
	if err := s.mayResize(sb, c); err != nil {
		return err
	}
	if c.Status.Paused && intent.To.Memory != intent.From.Memory {
		return fmt.Errorf("it is paused, and its guest can neither take nor give back memory; resume it first: %w", errdefs.ErrFailedPrecondition)
	}
	rev := revert.New(ctx)
	defer rev.Fail(&err) //nolint:contextcheck // it has ctx since New
	rev.Add("resize", func(ctx context.Context) error { return s.takeBackResize(ctx, sb, c) })
	if err := s.pushResize(ctx, sb, c, intent); err != nil {
		return err
	}
	rev.Success()
	return nil
}

// takeBackResize undoes a beginning of which nobody was told, also where it was cut short.
func (s *Service) takeBackResize(ctx context.Context, sb vm.Sandbox, c vm.Container) error {
	live, err := s.deps.Hypervisor.LiveSize(ctx, sb.ID)
	if err == nil && live.Requested != c.Status.Size.Plugged() {
		err = s.deps.Hypervisor.RequestMemory(ctx, sb.ID, c.Status.Size.Plugged())
	}
	if err != nil && !errdefs.IsFailedPrecondition(err) && !errdefs.IsNotFound(err) {
		return err
	}
	now, nowSb, err := s.recordTerms("resize taken back", sb.ID, c.ID, termsOf(sb, c), nil)
	if err != nil || s.cfg.LibvirtCgroups {
		return err
	}
	return withoutDomain(s.limit(ctx, nowSb, now, groupLimits(nowSb, now, s.Accel())))
}

// pushResize does the steps of a resize, or of giving one up, that need no guest.
func (s *Service) pushResize(ctx context.Context, sb vm.Sandbox, c vm.Container, intent vm.ResizeIntent) error {
	terms := intent.Next
	if intent.GivenUp {
		terms = intent.Was
	}
	was, resumed := groupLimits(sb, c, s.Accel()), c.Status.Resize != nil
	c, sb, err := s.recordTerms("resize intended", sb.ID, c.ID, terms, &intent)
	if err != nil {
		return err
	}
	// What is on record of one that goes on may not have reached the group.
	if next := groupLimits(sb, c, s.Accel()); !s.cfg.LibvirtCgroups && (resumed || !next.Equal(was)) {
		if err := s.deps.Cgroups.Update(ctx, sb.ID, sb.Spec.CgroupParent, was, next); err != nil {
			return err
		}
	}
	want := goal(intent)
	if intent.From.MaxMemory == 0 || intent.From.Memory == intent.To.Memory {
		return nil
	}
	return s.deps.Hypervisor.RequestMemory(ctx, sb.ID, want.Plugged())
}

// goal is the size that a machine is to have.
func goal(intent vm.ResizeIntent) vm.MachineSize {
	if intent.GivenUp {
		return intent.From
	}
	return intent.To
}

// recordTerms records what a machine's size and limits follow from, and that it is being resized; nil if it is not.
func (s *Service) recordTerms(step, sandboxID, containerID string, terms vm.ResizeTerms, intent *vm.ResizeIntent) (vm.Container, vm.Sandbox, error) {
	c, err := s.updateContainer(containerID, step, func(st vm.ContainerStatus) (vm.ContainerStatus, error) {
		st.Resize, st.Resources, st.Asked = intent, terms.Limits, terms.Asked
		return st, nil
	})
	if err != nil {
		return c, vm.Sandbox{}, err
	}
	sb, err := s.deps.Store.Sandboxes.Get(sandboxID)
	if err != nil {
		return c, sb, err
	}
	st := sb.Status
	if st.Resources == terms.PodLimits && st.Overhead == terms.Overhead && st.Asked == terms.Asked {
		return c, sb, nil
	}
	sb, err = s.updateSandbox(sandboxID, "resize of the sandbox", func(st vm.SandboxStatus) (vm.SandboxStatus, error) {
		st.Resources, st.Overhead, st.Asked = terms.PodLimits, terms.Overhead, terms.Asked
		return st, nil
	})
	return c, sb, err
}

// finishResize sees the resize on record of a sandbox's VM through. Without one the VM has ended. Where libvirt is away it goes on
// without its caller. resizeLocks is held.
func (s *Service) finishResize(ctx context.Context, sandboxID string) (short shortfall, err error) {
	short, err = s.seeResizeThrough(ctx, sandboxID)
	if errdefs.IsUnavailable(err) {
		s.goOnWithResize(sandboxID) //nolint:contextcheck // it outlives the call
		err = fmt.Errorf("the resize goes on: %w", err)
	}
	return short, err
}

// seeResizeThrough does the work of finishResize for as long as libvirt is there.
func (s *Service) seeResizeThrough(ctx context.Context, sandboxID string) (short shortfall, err error) {
	if c, ok := s.liveContainer(sandboxID); !ok || c.Status.Resize == nil {
		return short, errEnded
	}
	news, forget := s.memories.wait(sandboxID)
	defer forget()
	var cause error
	for {
		c, ok := s.liveContainer(sandboxID)
		if !ok || c.Status.Resize == nil {
			return short, cause
		}
		intent := *c.Status.Resize
		wait := leftOf(intent.Deadline, intent.Begun, s.now())
		if err := s.awaitMemory(ctx, sandboxID, goal(intent), wait, news); err != nil {
			return short, errors.Join(cause, err)
		}
		if err := s.locked(ctx, sandboxID, func() (err error) {
			short, err = s.endResize(ctx, c.ID, intent)
			return err
		}); err != nil {
			if errors.Is(err, errNotWhole) && cause == nil {
				cause = err
				continue
			}
			if errors.Is(err, errNotYet) {
				if err := s.rest(ctx, notYetWait); err != nil {
					return short, err
				}
				continue
			}
			return short, errors.Join(cause, err)
		}
	}
}

// goOnWithResize sees a resize through that nobody waits for any more.
func (s *Service) goOnWithResize(sandboxID string) {
	ctx := log.With(s.life, zap.String("sandbox", sandboxID))
	s.work.Go(func() {
		again(ctx, "a resize", func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, workTimeout)
			defer cancel()
			unlock, err := s.resizeLocks.Lock(ctx, sandboxID)
			if err != nil {
				return err
			}
			defer unlock()
			return s.resumeResize(ctx, sandboxID)
		})
	})
}

// resumeResize goes on with a resize that was cut short, if there is one. resizeLocks is held. Only what can be tried again is
// an error: nobody waits for the rest.
func (s *Service) resumeResize(ctx context.Context, sandboxID string) error {
	if c, ok := s.liveContainer(sandboxID); !ok || c.Status.Resize == nil {
		return nil
	}
	err := s.locked(ctx, sandboxID, func() error { return s.repushResize(ctx, sandboxID) })
	if err == nil {
		_, err = s.seeResizeThrough(ctx, sandboxID)
	}
	if err != nil && !errdefs.IsUnavailable(err) && ctx.Err() == nil {
		log.From(ctx).Warn("a resize of an earlier life came to its end", zap.String("sandbox", sandboxID), zap.Error(err))
		return nil
	}
	return err
}

// repushResize does again what may have been cut short. Under the sandbox's lock.
func (s *Service) repushResize(ctx context.Context, sandboxID string) error {
	c, ok := s.liveContainer(sandboxID)
	if !ok || c.Status.Resize == nil || c.Status.State != vm.ContainerRunning {
		return nil
	}
	sb, err := s.deps.Store.Sandboxes.Get(sandboxID)
	if err != nil {
		return err
	}
	if err := s.pushResize(ctx, sb, c, *c.Status.Resize); err != nil && errdefs.IsUnavailable(err) {
		return err
	}
	return nil // what else is wrong, the end of it sees
}

// awaitMemory returns when the guest has the memory that it is to have, when it is too late, or when there is no guest any
// more. A machine that was booted by another QEMU meanwhile is told again. One without headroom always has its memory.
func (s *Service) awaitMemory(ctx context.Context, sandboxID string, want vm.MachineSize, wait time.Duration, news <-chan struct{}) error {
	if want.MaxMemory == 0 {
		return nil
	}
	late := time.NewTimer(wait)
	defer late.Stop()
	for {
		live, err := s.deps.Hypervisor.LiveSize(ctx, sandboxID)
		if err == nil && live.Requested != want.Plugged() {
			err = s.deps.Hypervisor.RequestMemory(ctx, sandboxID, want.Plugged())
		}
		switch {
		case err == nil && live.Plugged == want.Plugged():
			return nil
		case errdefs.IsFailedPrecondition(err), errdefs.IsNotFound(err):
			return nil
		}
		select {
		case <-news:
		case <-late.C:
			return nil
		case <-s.life.Done():
			return errClosed // the next life finds the record
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
