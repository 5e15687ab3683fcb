// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

// Nothing here sets this host's clock.
func TestAClockThatGoesRightIsLeftAlone(t *testing.T) {
	for wrong, right := range map[time.Duration]bool{
		0: true, 100 * time.Millisecond: true, -100 * time.Millisecond: true,
		time.Second: false, -time.Second: false, -time.Hour: false,
	} {
		now := time.Now()
		if got := goesRight(now, now.Add(wrong)); got != right {
			t.Errorf("wrong by %s: goes right %t", wrong, got)
		}
	}
	if err := New().SetClock(time.Now()); err != nil {
		t.Errorf("to what it is: %v", err)
	}
	if err := New().SetClock(time.Unix(0, 0)); !errdefs.IsInvalidArgument(err) {
		t.Errorf("to 1970: %v", err)
	}
}
