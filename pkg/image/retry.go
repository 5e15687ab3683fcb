// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/containerd/errdefs"
)

// retryPolicy says how often and after what time something is tried again.
type retryPolicy struct {
	attempts int           // in a row that made no progress
	first    time.Duration // wait after the first failure; it doubles from one to the next
	longest  time.Duration
	stall    time.Duration // that a registry may be silent, before or within an answer
}

var defaultRetry = retryPolicy{attempts: 5, first: 250 * time.Millisecond, longest: 5 * time.Second, stall: 30 * time.Second}

// do tries until try succeeds, fails otherwise than by Unavailable, or the attempts are
// used up. Each attempt gets stall as its deadline: it is for short exchanges.
func (p retryPolicy) do(ctx context.Context, try func(context.Context) error) error {
	for failed := 0; ; {
		err := p.once(ctx, try)
		if err == nil || !errdefs.IsUnavailable(err) {
			return err
		}
		if failed++; failed == p.attempts {
			return err
		}
		if err := p.wait(ctx, failed); err != nil {
			return err
		}
	}
}

func (p retryPolicy) once(ctx context.Context, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, p.stall, errStalled)
	defer cancel()
	return try(ctx)
}

// wait lets the time pass that is due after so many failures in a row.
func (p retryPolicy) wait(ctx context.Context, failed int) error {
	pause := min(p.longest, p.first<<min(failed-1, 16))
	// Half of it is random: the nodes of a cluster do not come back as one.
	timer := time.NewTimer(pause/2 + rand.N(pause/2+1)) //nolint:gosec // nothing secret about it
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
