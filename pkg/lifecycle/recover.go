// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/vmlet/vmlet/pkg/log"
	"github.com/vmlet/vmlet/pkg/revert"
	"github.com/vmlet/vmlet/pkg/vm"
)

// Recovery rests on these assumptions:
//
//  1. A record is written before the first side effect it stands for and removed after
//     the last trace is gone. So whatever exists without a record is not ours to judge,
//     except a domain that carries our store's own mark.
//  2. Every step of every use case is idempotent, so finishing is doing it again.
//  3. VMs run on without us. A domain that is active is never touched, except to finish
//     what was being done to it.
//  4. Disks are only ever removed with what they belong to: a container, a sandbox, or for
//     a persistent one the record that says so.

// recoverTimeout bounds the recovery of one sandbox: one that hangs must not hold up
// the others. recoverAtOnce bounds how many are worked on at a time.
const (
	recoverTimeout = 60 * time.Second
	recoverAtOnce  = 4
)

// Recover brings records and world together after a start. When it returns, calls may
// be served; the state of every sandbox is true, except for those whose recovery
// failed, which is logged and tried again by the next Stop or Remove.
//
// accel is how guests' CPUs are run from now on: it is libvirt who knows, and libvirt may
// have been away until now. progress is told how many sandboxes are done; it may be nil.
func (s *Service) Recover(ctx context.Context, accel vm.Accel, progress func(done, total int)) error {
	s.accel.Store(&accel)
	domains, err := s.deps.Hypervisor.Domains(ctx)
	if err != nil {
		return fmt.Errorf("recover: list domains: %w", err)
	}
	netns, err := s.deps.Network.Present(ctx)
	if err != nil {
		return fmt.Errorf("recover: list network namespaces: %w", err)
	}
	seen := map[string]observed{}
	byID := map[string]vm.Domain{}
	for id := range netns {
		seen[id] = observed{domain: vm.DomainAbsent, netns: true}
	}
	for _, d := range domains {
		seen[d.SandboxID] = observed{domain: d.State, netns: netns[d.SandboxID]}
		byID[d.SandboxID] = d
	}
	s.recoverAll(ctx, seen, byID, progress)
	if err := s.removeOrphans(ctx, domains); err != nil {
		log.From(ctx).Error("domains without a record are left for the next start to remove", zap.Error(err))
	}
	if err := s.removeLeftShares(ctx); err != nil {
		log.From(ctx).Error("shares without a sandbox are left for the next start to remove", zap.Error(err))
	}
	s.finishDiskRemovals(ctx)
	for _, sb := range s.deps.Store.Sandboxes.All() {
		s.tellVM(sb.ID)
		s.tellQGA(sb.ID, byID[sb.ID].AgentConnected)
	}
	s.settleNICs(log.Into(s.life, log.From(ctx))) //nolint:contextcheck // it waits for guests, and outlives the recovery
	return ctx.Err()                              // what was not begun is left to the next start
}

func (s *Service) recoverAll(ctx context.Context, seen map[string]observed, domains map[string]vm.Domain, progress func(int, int)) {
	sandboxes := s.deps.Store.Sandboxes.List()
	done := make(chan struct{}, len(sandboxes))
	var group errgroup.Group
	group.SetLimit(recoverAtOnce)
	go func() {
		for i := range sandboxes {
			<-done
			if progress != nil {
				progress(i+1, len(sandboxes))
			}
		}
	}()
	for _, sb := range sandboxes {
		group.Go(func() error {
			defer func() { done <- struct{}{} }()
			if ctx.Err() != nil {
				return nil
			}
			// Detached: a start that is being finished must not be undone by our own end.
			ctx, cancel := context.WithTimeout(log.With(context.WithoutCancel(ctx), zap.String("sandbox", sb.ID)), recoverTimeout)
			defer cancel()
			if err := s.recoverSandbox(ctx, sb, seen[sb.ID], domains[sb.ID]); err != nil {
				log.From(ctx).Error("sandbox not recovered; stop or remove it to try again", zap.Error(err))
				s.bootAgainLater(sb.ID)
				s.hearOfDisks(sb.ID) //nolint:contextcheck // it outlives the recovery
			}
			return nil
		})
	}
	_ = group.Wait() //nolint:errcheck // the errors are each sandbox's own and are logged with it
}

func (s *Service) recoverSandbox(ctx context.Context, sb vm.Sandbox, o observed, d vm.Domain) error {
	goOn, err := s.resumeOperations(ctx, sb)
	if err != nil {
		return err
	}
	defer goOn()
	unlock, err := s.locks.Lock(ctx, sb.ID)
	if err != nil {
		return err
	}
	defer unlock()
	action := decideSandbox(sb, o)
	if action != sandboxKeep {
		log.From(ctx).Info("recover", zap.String("state", string(sb.Status.State)), zap.String("action", string(action)))
	}
	switch action {
	case sandboxUndo:
		return s.undoSandbox(ctx, sb)
	case sandboxFinishStop:
		return s.stopSandbox(ctx, sb.ID)
	case sandboxFinishGone:
		return s.removeSandbox(ctx, sb.ID)
	case sandboxLost:
		return s.loseSandbox(ctx, sb, o, d)
	case sandboxKeep:
	}
	return errors.Join(s.recoverLayers(ctx, sb), s.recoverContainers(ctx, sb.ID, o, d))
}

// undoSandbox ends a creation that was cut short. Where that fails the sandbox is shown as
// Broken: nobody could stop or remove what nobody sees, nor run its attempt again.
func (s *Service) undoSandbox(ctx context.Context, sb vm.Sandbox) error {
	err := s.undoRestored(ctx, sb.ID)
	if err == nil {
		err = s.deps.Network.Teardown(ctx, networkRequest(sb))
	}
	if err != nil {
		err = fmt.Errorf("undo its creation: %w: %w", revert.ErrIncomplete, err)
	}
	return s.abandonSandbox(sb.ID, err)
}

// loseSandbox settles a sandbox whose network the host has lost. Exits are settled
// first, with what libvirt and its log still tell about them; then the rest is given
// back, the CNI leases above all. A VM that still runs is left to run, cut off as it
// is: only who orchestrates it may end it.
func (s *Service) loseSandbox(ctx context.Context, sb vm.Sandbox, o observed, d vm.Domain) error {
	if err := errors.Join(s.dropReboots(ctx, sb.ID), s.losePowerOn(ctx, sb)); err != nil {
		return err
	}
	if err := s.recoverContainers(ctx, sb.ID, o, d); err != nil {
		return err
	}
	if _, err := s.updateSandbox(sb.ID, "sandbox lost", func(st vm.SandboxStatus) (vm.SandboxStatus, error) {
		st.Message = "the sandbox's network namespace is gone, as after a reboot of the host; its disks are kept until it is removed"
		return st.To(vm.SandboxNotReady)
	}); err != nil {
		return err
	}
	if o.domain.Active() {
		return nil
	}
	return s.stopSandbox(ctx, sb.ID)
}

func (s *Service) recoverContainers(ctx context.Context, sandboxID string, o observed, d vm.Domain) error {
	var errs []error
	for _, c := range s.containersOf(sandboxID) {
		if err := s.recoverContainer(ctx, c, o, d); err != nil {
			errs = append(errs, fmt.Errorf("container %s: %w", c.ID, err))
		}
	}
	if o.domain.Active() {
		errs = append(errs, s.endStray(ctx, sandboxID))
	}
	errs = append(errs, s.settleDisks(ctx, sandboxID))
	return errors.Join(errs...)
}

func (s *Service) recoverContainer(ctx context.Context, c vm.Container, o observed, d vm.Domain) error {
	if restsForIOError(d) {
		s.restAfterIOError(log.With(s.life, zap.String("sandbox", d.SandboxID)), d.SandboxID) //nolint:contextcheck // it outlives the recovery
	}
	action := decideContainer(c, o)
	if action != containerKeep && action != containerRearm {
		log.From(ctx).Info("recover", zap.String("container", c.ID),
			zap.String("state", string(c.Status.State)), zap.String("action", string(action)))
	}
	switch action {
	case containerUndo:
		return s.undoCreate(ctx, c)
	case containerFinishStart:
		if !o.netns {
			return s.settleExit(ctx, c, d)
		}
		return s.startContainer(ctx, c.ID)
	case containerRearm:
		return s.rearm(ctx, c)
	case containerResumeStop:
		return s.resumeStop(ctx, c)
	case containerKeepOff:
		return s.keepOff(ctx, c)
	case containerSettle:
		return s.lookAgain(ctx, c, o)
	case containerFinishGone:
		return s.removeContainer(ctx, c)
	case containerKeep:
	}
	return nil
}

// lookAgain settles an exit after a second look: the list of all domains may lack one
// that was busy just then, and an exit is for good.
func (s *Service) lookAgain(ctx context.Context, c vm.Container, o observed) error {
	d, err := s.deps.Hypervisor.Domain(ctx, c.SandboxID)
	if err != nil {
		return err
	}
	if o.domain = d.State; o.domain.Active() {
		return s.recoverContainer(ctx, c, o, d)
	}
	return s.settleExit(ctx, c, d)
}

// rearm goes on with what a running container needs us for.
func (s *Service) rearm(ctx context.Context, c vm.Container) error {
	sb, err := s.deps.Store.Sandboxes.Get(c.SandboxID)
	if err != nil {
		return err
	}
	if c.Status.Restore != nil {
		s.work.Go(func() { s.look(s.life, c.SandboxID) }) // memory takes its time, and the gate is not to wait for it
		return nil
	}
	if err := s.follow(ctx, c); err != nil {
		return err
	}
	s.forgetMemory(ctx, c)
	s.attend(sb, c) //nolint:contextcheck // it lives as long as the container or we do
	if err := errors.Join(s.agreeOnPause(ctx, c), s.resumeReboot(ctx, c)); err != nil {
		return err
	}
	s.resumePowerOff(c) //nolint:contextcheck // it outlives the recovery
	if c.Status.Resize != nil {
		s.goOnWithResize(sb.ID) //nolint:contextcheck // it waits for the guest, and outlives the recovery
	}
	if c.Status.Rejoin {
		s.rejoinLater(c.SandboxID) //nolint:contextcheck // as above
	}
	if err := s.limitAgain(ctx, sb, c); err != nil {
		log.From(ctx).Error("the limits on record are not those of the VM; update them again", zap.String("container", c.ID), zap.Error(err))
	}
	if len(c.Status.Shares) > 0 { // what happened to it while we were away was told nobody
		s.work.Go(func() { s.repairShare(log.With(s.life, zap.String("sandbox", sb.ID)), sb.ID, false) }) //nolint:contextcheck // as above
	}
	return nil
}

// resumeStop goes on with a stop of an earlier life: the guest has what is left of the
// grace that was promised then.
func (s *Service) resumeStop(ctx context.Context, c vm.Container) error {
	if c.Status.Stop.Forced || c.Status.State == vm.ContainerStarting {
		if err := s.follow(ctx, c); err != nil {
			return err
		}
		return s.destroyContainer(ctx, c)
	}
	if err := s.rearm(ctx, c); err != nil {
		return err
	}
	s.waitStop(c, s.leftOfGrace(*c.Status.Stop))
	return nil
}

// removeLeftShares takes down the trees of sandboxes that have no record, which only a store
// that was put back from a copy leaves. After removeOrphans: no QEMU sees them any more.
func (s *Service) removeLeftShares(ctx context.Context) error {
	ids, err := s.deps.Shares.List(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, id := range ids {
		if _, err := s.deps.Store.Sandboxes.Get(id); errors.Is(err, errdefs.ErrNotFound) {
			errs = append(errs, s.deps.Shares.Remove(ctx, id))
		}
	}
	return errors.Join(errs...)
}

// removeOrphans removes domains that carry our store's mark and have no record, which
// happens when the store was put back from a copy. Nothing else is ever collected:
// not by name, and no disk.
func (s *Service) removeOrphans(ctx context.Context, domains []vm.Domain) error {
	var errs []error
	for _, d := range domains {
		if d.Owner != s.deps.Store.Owner {
			continue
		}
		if _, err := s.deps.Store.Sandboxes.Get(d.SandboxID); err == nil {
			continue
		}
		log.From(ctx).Warn("removing a domain of ours that has no record", zap.String("sandbox", d.SandboxID), zap.String("domain", d.Name))
		if err := s.deps.Hypervisor.Destroy(ctx, d.SandboxID); err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, s.deps.Hypervisor.Undefine(ctx, d.SandboxID))
	}
	return errors.Join(errs...)
}
