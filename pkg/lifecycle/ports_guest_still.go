// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"time"
)

// GuestStill is the part of a Guest that is about its standing still: of what it writes, or of all of it. By either agent,
// under the terms of Guest. What an agent that is too old cannot do is NotImplemented.
type GuestStill interface {
	// Freeze has the guest write what it has to its file systems and then write no more to them, until Thaw. It returns how
	// many are frozen. vmlet-agent thaws them when that long has passed, when its session ends, and when it starts;
	// qemu-guest-agent knows no limit. FailedPrecondition while they are frozen. After an error some may be: Thaw.
	Freeze(ctx context.Context, id string, most time.Duration) (frozen int, err error)
	// Thaw lets the guest write again, and returns how many file systems were frozen until then. Idempotent.
	Thaw(ctx context.Context, id string) (thawed int, err error)
	// SetClock sets the guest's clock to what now returns when it is asked.
	SetClock(ctx context.Context, id string, now func() time.Time) error
}
