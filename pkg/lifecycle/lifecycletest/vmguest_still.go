// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
)

// fakeFileSystems is how many file systems a fake guest has.
const fakeFileSystems = 2

// stillness is what a fake guest is frozen until, and what its clock was set to last.
type stillness struct {
	frozenUntil time.Time
	clock       time.Time
}

// Freeze implements lifecycle.Guest.
func (g *Guest) Freeze(ctx context.Context, id string, most time.Duration) (int, error) {
	err := g.call(ctx, "Freeze", id, func(one *fakeGuest) error {
		if time.Now().Before(one.still.frozenUntil) {
			return fmt.Errorf("file systems are frozen already: %w", errdefs.ErrFailedPrecondition)
		}
		one.still.frozenUntil = time.Now().Add(most)
		return nil
	})
	if err != nil {
		return 0, err
	}
	return fakeFileSystems, nil
}

// Thaw implements lifecycle.Guest.
func (g *Guest) Thaw(ctx context.Context, id string) (thawed int, err error) {
	err = g.call(ctx, "Thaw", id, func(one *fakeGuest) error {
		if time.Now().Before(one.still.frozenUntil) {
			thawed = fakeFileSystems
		}
		one.still.frozenUntil = time.Time{}
		return nil
	})
	return thawed, err
}

// SetClock implements lifecycle.Guest.
func (g *Guest) SetClock(ctx context.Context, id string, now func() time.Time) error {
	return g.call(ctx, "SetClock", id, func(one *fakeGuest) error {
		one.still.clock = now()
		return nil
	})
}

// Frozen tells whether a guest's file systems are frozen now.
func (g *Guest) Frozen(id string) bool {
	return read(g, id, func(one *fakeGuest) bool { return time.Now().Before(one.still.frozenUntil) })
}

// Clock is what a guest's clock was set to last, zero if it was not.
func (g *Guest) Clock(id string) time.Time {
	return read(g, id, func(one *fakeGuest) time.Time { return one.still.clock })
}
