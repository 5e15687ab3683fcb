// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/zap"

	"github.com/vmlet/vmlet/pkg/annotations"
	"github.com/vmlet/vmlet/pkg/log"
	"github.com/vmlet/vmlet/pkg/vm"
)

// prepareTimeout bounds one try to make the guest as the pod wants it.
const prepareTimeout = time.Minute

// attendants are the goroutines that see to the guests of running containers, by
// container ID: the guest is made as the pod wants it in each of its boots, and the
// container's command is started, waited for and accounted for.
type attendants struct {
	mu sync.Mutex
	m  map[string]*attendant
}

type attendant struct {
	sandboxID string
	// rebooted has one slot.
	rebooted chan struct{}
	end      context.CancelFunc
	// over is closed by end.
	over  <-chan struct{}
	begun begun
	// timeout is how long an agent is waited for, find looks for one that is not ours.
	timeout time.Duration
	find    func()
}

// attend begins to see to the guest of a container that runs, for as long as it does and we
// do. All that it does can be done again: after a restart it simply begins anew. Under the
// sandbox's lock. Idempotent.
func (s *Service) attend(sb vm.Sandbox, c vm.Container) {
	ask, err := annotations.Parse(sb.Spec.AllSettings())
	if err != nil {
		return // they were read before, and are as they were
	}
	s.attendants.mu.Lock()
	defer s.attendants.mu.Unlock()
	if s.attendants.m[c.ID] != nil {
		return
	}
	ctx, end := context.WithCancel(log.With(s.life, zap.String("sandbox", c.SandboxID), zap.String("container", c.ID)))
	a := &attendant{
		sandboxID: c.SandboxID, rebooted: make(chan struct{}, 1), end: end, over: ctx.Done(),
		begun: begun{opened: make(chan struct{})}, timeout: s.agentTimeout(ask),
		find: s.finder(ctx, c),
	}
	if c.Spec.HasMain() || s.hasAgentPort(ask) {
		s.deps.Guest.Connect(c.SandboxID)
		if !s.work.Go(func() { s.seeTo(ctx, sb, c, a.timeout, a.rebooted) }) {
			end()
			return
		}
	} else {
		s.deps.Guest.ConnectQGA(c.SandboxID) // the seed has seen to the guest
	}
	if s.attendants.m == nil {
		s.attendants.m = map[string]*attendant{}
	}
	s.attendants.m[c.ID] = a
}

// leave ends what attend began. Under the sandbox's lock. Idempotent.
func (s *Service) leave(c vm.Container) {
	if a := s.attendants.take(c.ID); a != nil {
		a.end()
		s.deps.Guest.Disconnect(c.SandboxID) // a session takes its time to end
	}
}

// take removes a container's attendant, nil if it has none.
func (a *attendants) take(containerID string) *attendant {
	a.mu.Lock()
	defer a.mu.Unlock()
	one := a.m[containerID]
	delete(a.m, containerID)
	return one
}

// over is closed when a container's attendant has ended; nil if it has none.
func (a *attendants) over(containerID string) <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if one := a.m[containerID]; one != nil {
		return one.over
	}
	return nil
}

// agentTimeout is how long a command waits for its guest's agent.
func (s *Service) agentTimeout(ask vm.Overrides) time.Duration {
	if ask.AgentTimeout > 0 {
		return ask.AgentTimeout
	}
	return s.defaults.Load().AgentTimeout
}

// hearReboots tells attendants of boots after the first.
func (s *Service) hearReboots(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case id := <-s.deps.Guest.Reboots():
			s.attendants.rebooted(id)
			s.reboots.tell(id)
		}
	}
}

func (a *attendants) rebooted(sandboxID string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, one := range a.m {
		if one.sandboxID != sandboxID {
			continue
		}
		select {
		case one.rebooted <- struct{}{}:
		default: // it has not come to the last one yet
		}
	}
}

// seeTo is the life of an attendant.
func (s *Service) seeTo(ctx context.Context, sb vm.Sandbox, c vm.Container, timeout time.Duration, rebooted <-chan struct{}) {
	if c.Spec.HasMain() {
		s.seeToMain(ctx, sb, c, timeout)
		return
	}
	late := time.AfterFunc(timeout, func() { tellNoAgent(ctx, sb, c) })
	defer late.Stop()
	for ctx.Err() == nil {
		again(ctx, "the guest is not as the pod wants it", func(ctx context.Context) error {
			if _, err := s.deps.Guest.AwaitAgent(ctx, sb.ID); err != nil {
				return err
			}
			late.Stop()
			err := s.prepare(ctx, sb, c)
			// Also when that has failed: who looks what is wrong with the guest has to be let in.
			s.attendants.setBegun(c.ID, true)
			if err == nil || mayPass(err) {
				return err
			}
			// A machine runs on without: that is what it was before there was an agent.
			log.From(ctx).Warn("the guest refuses what the pod wants of it", zap.Error(err))
			return nil
		})
		select {
		case <-rebooted:
			s.attendants.setBegun(c.ID, false)
		case <-ctx.Done():
		}
	}
}

// tellNoAgent warns of what a machine that runs goes without.
func tellNoAgent(ctx context.Context, sb vm.Sandbox, c vm.Container) {
	if len(c.Status.Files)+len(c.Status.Shares)+len(sb.Spec.Sysctls) > 0 {
		log.From(ctx).Warn("no vmlet-agent answers, so the pod's mounts and sysctls are not in the guest; an image without it needs annotation " +
			annotations.GuestAgent + ": " + string(vm.GuestAgentSeed) + " to have it installed, " + string(vm.GuestAgentQGA) + " to do without")
	}
}

// prepare makes the guest as the pod wants it, and idempotently so.
func (s *Service) prepare(ctx context.Context, sb vm.Sandbox, c vm.Container) error {
	ctx, cancel := context.WithTimeout(ctx, prepareTimeout)
	defer cancel()
	if err := s.deps.Guest.Setup(ctx, sb.ID, setupOf(sb)); err != nil {
		return fmt.Errorf("set up the guest: %w", err)
	}
	if err := s.readdress(ctx, sb.ID, c.ID); err != nil {
		return fmt.Errorf("give the guest its addresses: %w", err)
	}
	s.keepNICs(ctx, sb.ID)
	if len(c.Status.Shares) > 0 {
		// What a boot held of a share that was lost, the next one does not.
		if err := s.shareOnce(ctx, sb, c); err != nil {
			return err
		}
	}
	return s.keepFiles(ctx, c)
}

func (s *Service) keepFiles(ctx context.Context, c vm.Container) error {
	if len(c.Status.Files) == 0 {
		return nil
	}
	if err := s.deps.Guest.KeepFiles(ctx, c.SandboxID, namespaceOf(c), c.Status.Files); err != nil {
		return fmt.Errorf("copy files into the guest: %w", err)
	}
	return nil
}

// mayPass tells whether an error may go by itself: an agent that does not answer, or whose
// session ended. What it says of itself does not.
func mayPass(err error) bool {
	for _, final := range []error{
		errdefs.ErrInvalidArgument, errdefs.ErrNotFound, errdefs.ErrAlreadyExists, errdefs.ErrPermissionDenied,
		errdefs.ErrFailedPrecondition, errdefs.ErrNotImplemented, errdefs.ErrResourceExhausted,
	} {
		if errors.Is(err, final) {
			return false
		}
	}
	return true
}
