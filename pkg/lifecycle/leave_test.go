// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"context"
	"testing"
	"time"
)

// A session may take its time to end: QEMU's socket is the guest's to read from.
func TestAGuestThatIsSlowToLeaveHoldsUpNoOther(t *testing.T) {
	w := newWorld(t)
	slow, container := w.running("a")
	leaving, release := make(chan struct{}), make(chan struct{})
	w.guest.SetDisconnect(func(id string) {
		if id == slow {
			close(leaving)
			<-release
		}
	})
	stopped := make(chan error, 1)
	go func() { stopped <- w.svc.StopContainer(t.Context(), container, 0) }()
	<-leaving

	other := w.created(w.sandbox("b"), 0)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := w.svc.StartContainer(ctx, other); err != nil {
		t.Error(err)
	}
	close(release)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}
