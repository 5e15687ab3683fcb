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

// A resize goes this way:
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

// endResize gives the machine what it can have by now, and puts that on record. An error that is errNotWhole says that it is
// being given up: the guest is to be waited for once more. Under the sandbox's lock.
func (s *Service) endResize(ctx context.Context, containerID string, intent vm.ResizeIntent) (short shortfall, err error) {
	c, err := s.deps.Store.Containers.Get(containerID)
	if err != nil {
		return short, err
	}
	if c.Status.Resize == nil || c.Status.Resize.ID != intent.ID {
		return short, nil
	}
	sb, err := s.deps.Store.Sandboxes.Get(c.SandboxID)
	if err != nil {
		return short, err
	}
	want := goal(intent)
	whole := intent.Whole && !intent.GivenUp
	live, short, err := s.grow(ctx, c, want, whole)
	switch {
	case errdefs.IsFailedPrecondition(err), errdefs.IsNotFound(err):
		return short, errors.Join(errEnded, s.keepSize(ctx, c))
	case err != nil:
		return short, err
	case errdefs.IsUnavailable(short.cpus):
		return short, short.cpus
	case errdefs.IsResourceExhausted(short.cpus) && s.now().Before(intent.Deadline):
		return short, errNotYet
	}
	if cause := errors.Join(short.memory, short.cpus); cause != nil && whole {
		return short, s.giveUpResize(ctx, sb, c, intent, cause)
	}
	return short, s.settleSize(ctx, sb, c, want, live)
}

// keepSize ends the resize of a VM that has ended meanwhile: its size is that on record. One that is booted again boots by
// the definition, which may have got CPUs already.
func (s *Service) keepSize(ctx context.Context, c vm.Container) error {
	size := c.Status.Size
	if c.Status.State == vm.ContainerRunning {
		err := s.deps.Hypervisor.DefineSize(ctx, c.SandboxID, size.VCPUs, size.Plugged())
		if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsFailedPrecondition(err) {
			return err
		}
	}
	return s.recordResized(c.ID, size)
}

// rest waits for a while.
func (s *Service) rest(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-s.life.Done():
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// grow adds the CPUs that a machine is to have, and returns what it has then and why that is not all. One that is to have all or
// nothing, and has not the memory, gets none. An error is that of a machine that cannot be looked at; FailedPrecondition or NotFound if
// there is none.
func (s *Service) grow(ctx context.Context, c vm.Container, want vm.MachineSize, whole bool) (live vm.LiveSize, short shortfall, err error) {
	if c.Status.State != vm.ContainerRunning {
		return live, short, errEnded
	}
	if whole && want.MaxMemory > 0 {
		live, err = s.deps.Hypervisor.LiveSize(ctx, c.SandboxID)
		if err != nil || live.Plugged != want.Plugged() {
			return live, shortfall{memory: shortOfMemory(want, live)}, err
		}
	}
	live, short.cpus = s.deps.Hypervisor.AddVCPUs(ctx, c.SandboxID, want.VCPUs)
	if short.cpus != nil {
		if live, err = s.deps.Hypervisor.LiveSize(ctx, c.SandboxID); err != nil { // some may have been added
			return live, short, err
		}
	}
	if live.Plugged != want.Plugged() {
		short.memory = shortOfMemory(want, live)
	}
	return live, short, nil
}

func shortOfMemory(want vm.MachineSize, live vm.LiveSize) error {
	has := (want.Boot() + live.Plugged) / vm.MiB
	if live.Plugged > want.Plugged() {
		return fmt.Errorf("the guest has given back memory down to %d MiB in the time it had, and keeps what it uses and some room: %w", has, errdefs.ErrFailedPrecondition)
	}
	return fmt.Errorf("the guest has taken memory up to %d MiB in the time it had; it needs the driver virtio_mem, and memory blocks that come online by themselves: %w",
		has, errdefs.ErrFailedPrecondition)
}

// giveUpResize begins to undo a resize that is whole or not at all.
func (s *Service) giveUpResize(ctx context.Context, sb vm.Sandbox, c vm.Container, intent vm.ResizeIntent, cause error) error {
	now := s.now()
	intent.GivenUp, intent.Begun, intent.Deadline = true, now, now.Add(giveUpWait)
	if err := s.pushResize(ctx, sb, c, intent); err != nil {
		return err
	}
	return fmt.Errorf("%w; %w", cause, errNotWhole)
}

// settleSize makes what a machine has by now its size: for the guest, which is to change its memory no more, for the next
// boot, for the record and for the group.
func (s *Service) settleSize(ctx context.Context, sb vm.Sandbox, c vm.Container, want vm.MachineSize, live vm.LiveSize) error {
	intent := *c.Status.Resize
	keeps := live.Plugged
	if keeps > want.Plugged() {
		keeps = min(keeps+breath, max(intent.From.Plugged(), keeps))
	}
	size := want
	size.VCPUs, size.Memory = live.VCPUs, want.Boot()+keeps
	if want.MaxMemory > 0 && live.Requested != keeps {
		if err := s.deps.Hypervisor.RequestMemory(ctx, sb.ID, keeps); err != nil {
			return err
		}
	}
	if err := s.narrow(ctx, sb, c, size); err != nil {
		if intent.Whole && !intent.GivenUp && !errdefs.IsUnavailable(err) {
			return s.giveUpResize(ctx, sb, c, intent, err)
		}
		// It has more room than it is to have. What is on record is true, and each start of vmlet tries again.
		log.From(ctx).Warn("the limits of a VM that was resized are not narrowed yet", zap.String("sandbox", sb.ID), zap.Error(err))
	}
	// AddVCPUs has defined what it added, and looking whether it has takes as long as all else here.
	if defined := size == intent.To && size.Memory == intent.From.Memory && !intent.GivenUp; !defined {
		if err := s.deps.Hypervisor.DefineSize(ctx, sb.ID, size.VCPUs, size.Plugged()); err != nil {
			return err
		}
	}
	if err := s.recordResized(c.ID, size); err != nil {
		return err
	}
	if size.VCPUs != intent.From.VCPUs || size.Memory != intent.From.Memory {
		s.tell(vm.VMEvent{SandboxID: sb.ID, Kind: vm.VMResizedEvent})
	}
	return nil
}

// narrow gives the group the room for the size that its VM has now, and no more.
func (s *Service) narrow(ctx context.Context, sb vm.Sandbox, c vm.Container, size vm.MachineSize) error {
	if s.cfg.LibvirtCgroups {
		return nil
	}
	before := groupLimits(sb, c, s.Accel())
	c.Status.Size, c.Status.Resize = size, nil
	after := groupLimits(sb, c, s.Accel())
	if after.Equal(before) {
		return nil
	}
	return s.deps.Cgroups.Update(ctx, sb.ID, sb.Spec.CgroupParent, before, after)
}

func (s *Service) recordResized(containerID string, size vm.MachineSize) error {
	_, err := s.updateContainer(containerID, "vm resized", func(st vm.ContainerStatus) (vm.ContainerStatus, error) {
		st.Size, st.Resize = size, nil
		return st, nil
	})
	return err
}
