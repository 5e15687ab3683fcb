// SPDX-License-Identifier: Apache-2.0

package qga

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
)

// freezeTimeout is how long a freeze may take: the guest writes first what it has.
const freezeTimeout = 20 * time.Second

// clockSlack is how wrong a clock may be that was set: the agent counts a missing hardware clock as a failure.
const clockSlack = 5 * time.Second

// count is how many file systems something was done to.
type count int

func (c count) check() error {
	if c < 0 {
		return fmt.Errorf("%d file systems", c)
	}
	return nil
}

// Freeze has the guest write no more to its file systems. This agent knows no limit in time.
func (a *Agent) Freeze(ctx context.Context, id string, _ time.Duration) (int, error) {
	var n count
	err := a.command(ctx, id, freezeTimeout, "guest-fsfreeze-freeze", nil, &n)
	if err != nil && errors.Is(err, errRefused) && errdefs.IsUnavailable(err) {
		err = fmt.Errorf("%w: %w", errdefs.ErrFailedPrecondition, err) // they are frozen: it takes no other command
	}
	return int(n), err
}

// Thaw lets the guest write again.
func (a *Agent) Thaw(ctx context.Context, id string) (int, error) {
	var n count
	err := a.command(ctx, id, freezeTimeout, "guest-fsfreeze-thaw", nil, &n)
	return int(n), err
}

// SetClock sets the guest's clock.
func (a *Agent) SetClock(ctx context.Context, id string, now func() time.Time) error {
	if err := a.Await(ctx, id); err != nil {
		return err
	}
	err := a.command(ctx, id, commandTimeout, "guest-set-time", map[string]int64{"time": now().UnixNano()}, nil)
	if err == nil || !errors.Is(err, errRefused) {
		return err
	}
	var nanos int64
	if asked := a.tell(ctx, id, "guest-get-time", &nanos); asked != nil {
		return errors.Join(err, asked)
	}
	if wrong := now().Sub(time.Unix(0, nanos)).Abs(); wrong > clockSlack {
		return fmt.Errorf("it goes wrong by %s: %w", wrong.Round(time.Second), err)
	}
	return nil
}
