// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// clockSlack is how wrong a clock may go that is left alone: what keeps the guest's time sees to that, and without steps.
const clockSlack = 200 * time.Millisecond

// earliest is a time that no host's clock can tell.
var earliest = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

// SetClock sets the guest's clock, unless it goes right already.
func (*Machine) SetClock(to time.Time) error {
	if to.Before(earliest) {
		return fmt.Errorf("set the clock to %s: %w", to.UTC().Format(time.RFC3339), errdefs.ErrInvalidArgument)
	}
	if goesRight(time.Now(), to) {
		return nil
	}
	ts := unix.NsecToTimespec(to.UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
		return fmt.Errorf("set the clock: %w", err)
	}
	return nil
}

// goesRight tells whether a clock is near enough.
func goesRight(is, to time.Time) bool {
	wrong := is.Sub(to)
	return wrong > -clockSlack && wrong < clockSlack
}
