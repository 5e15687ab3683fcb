// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/zap"

	"github.com/vmlet/vmlet/pkg/annotations"
	"github.com/vmlet/vmlet/pkg/log"
	"github.com/vmlet/vmlet/pkg/vm"
)

// nicAgentPatience is how long a guest's agent may take to answer before it is told later, nicGuestPatience how long it may
// take to find a new device and to configure it.
const (
	nicAgentPatience = 3 * time.Second
	nicGuestPatience = 20 * time.Second
)

// tellGuestOfNICs has the guest configure its NICs, and says what came of it.
//
//nolint:contextcheck // what is told later nobody waits for
func (s *Service) tellGuestOfNICs(ctx context.Context, sb vm.Sandbox) (vm.NICGuest, string) {
	c, live := s.liveContainer(sb.ID)
	if !live || !c.Status.Runs() {
		return vm.NICGuestNotRunning, ""
	}
	ask, err := annotations.Parse(sb.Spec.AllSettings())
	if err != nil || !c.Spec.HasMain() && !s.hasAgentPort(ask) {
		return vm.NICGuestNoAgent, "the machine has no port for vmlet-agent"
	}
	awaiting, cancel := context.WithTimeout(ctx, nicAgentPatience)
	defer cancel()
	if _, err := s.deps.Guest.AwaitAgent(awaiting, sb.ID); err != nil {
		s.tellGuestLater(c)
		return vm.NICGuestNoAgent, "no vmlet-agent answers; one that does later configures it"
	}
	telling, cancel := context.WithTimeout(ctx, nicGuestPatience)
	defer cancel()
	switch err := s.deps.Guest.SetNICs(telling, sb.ID, attachedNICs(sb)); {
	case err == nil:
		return vm.NICGuestConfigured, ""
	case errors.Is(err, errdefs.ErrNotImplemented):
		return vm.NICGuestNoAgent, err.Error()
	default:
		return vm.NICGuestFailed, err.Error()
	}
}

// attachedNICs are those that are the agent's to configure: of the first one the guest hears by its seed.
func attachedNICs(sb vm.Sandbox) []vm.NIC {
	var nics []vm.NIC
	for _, n := range sb.Status.NICs {
		if n.InMachine() && !n.Unplugged {
			nics = append(nics, *n.NIC)
		}
	}
	return nics
}

// keepNICs has a guest that has just booted configure the NICs that were attached. What it makes of them is no reason to
// keep anything else from it.
func (s *Service) keepNICs(ctx context.Context, sandboxID string) {
	sb, err := s.deps.Store.Sandboxes.Get(sandboxID)
	if err != nil || !sb.Status.NICsChanged {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, nicGuestPatience)
	defer cancel()
	if err := s.deps.Guest.SetNICs(ctx, sandboxID, attachedNICs(sb)); err != nil {
		log.From(ctx).Warn("the guest has not configured its attached NICs", zap.Error(err))
	}
}

// tellGuestLater has a guest whose agent does not answer now configure its NICs when it does, as long as the container runs:
// a boot of its own would tell the agent, but it may just have lost its session.
func (s *Service) tellGuestLater(c vm.Container) {
	over := s.attendants.over(c.ID)
	if over == nil {
		return
	}
	s.work.Go(func() {
		ctx, cancel := context.WithCancel(log.With(s.life, zap.String("sandbox", c.SandboxID)))
		defer cancel()
		go func() {
			select {
			case <-over:
				cancel()
			case <-ctx.Done():
			}
		}()
		if _, err := s.deps.Guest.AwaitAgent(ctx, c.SandboxID); err == nil {
			s.keepNICs(ctx, c.SandboxID)
		}
	})
}

// tellGuestSoon lets a guest's agent forget what it knows of a NIC that is gone.
func (s *Service) tellGuestSoon(ctx context.Context, sandboxID string) {
	sb, err := s.deps.Store.Sandboxes.Get(sandboxID)
	if err == nil {
		s.tellGuestOfNICs(ctx, sb)
	}
}
