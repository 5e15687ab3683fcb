// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/vmlet/vmlet/pkg/log"
	"github.com/vmlet/vmlet/pkg/vm"
)

// clockTry is how long an agent may take to answer before it is asked anew, clockPatience how long a guest is asked at all.
const (
	clockTry      = 30 * time.Second
	clockPatience = 2 * time.Minute
)

// mendClock sets the clock of a guest that stood still to this host's, in the background: a guest that is slow to answer is
// asked again, and one without an agent is left to its own time service.
func (s *Service) mendClock(c vm.Container) {
	until := time.Now().Add(clockPatience)
	s.whileItRuns(c.SandboxID, "the guest's clock is not set", func(ctx context.Context) error {
		now, err := s.deps.Store.Containers.Get(c.ID)
		if err != nil || now.Status.Paused {
			return nil // it is gone, or is set by the next resume
		}
		trying, cancel := context.WithTimeout(ctx, clockTry)
		defer cancel()
		err = s.deps.Guest.SetClock(trying, c.SandboxID, s.now)
		if err == nil || mayPass(err) && time.Now().Before(until) {
			return err
		}
		log.From(ctx).Info("the guest's clock is left as it is", zap.String("container", c.ID), zap.Error(err))
		return nil
	})
}
