// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"time"
)

// still is what both agents can do to a guest that is to stand still, or has stood.
type still interface {
	Freeze(ctx context.Context, id string, most time.Duration) (int, error)
	Thaw(ctx context.Context, id string) (int, error)
	SetClock(ctx context.Context, id string, now func() time.Time) error
}

// Freeze has the guest write no more to its file systems.
func (g *Guest) Freeze(ctx context.Context, id string, most time.Duration) (frozen int, err error) {
	err = g.asStill(ctx, "freeze the file systems of the guest of", id, func(a still) error {
		frozen, err = a.Freeze(ctx, id, most)
		return err
	})
	return frozen, err
}

// Thaw lets the guest write again.
func (g *Guest) Thaw(ctx context.Context, id string) (thawed int, err error) {
	err = g.asStill(ctx, "thaw the file systems of the guest of", id, func(a still) error {
		thawed, err = a.Thaw(ctx, id)
		return err
	})
	return thawed, err
}

// SetClock sets the guest's clock.
func (g *Guest) SetClock(ctx context.Context, id string, now func() time.Time) error {
	return g.asStill(ctx, "set the clock of the guest of", id, func(a still) error { return a.SetClock(ctx, id, now) })
}

// asStill is with for what both agents can do to a guest that stands still. Where both may be there, ours is given its time.
func (g *Guest) asStill(ctx context.Context, operation, id string, do func(still) error) error {
	ours, err := g.first(ctx, id, grace)
	switch {
	case err != nil:
	case ours:
		err = do(g.agents)
	default:
		err = do(g.qga)
	}
	return wrap(operation, id, err)
}
