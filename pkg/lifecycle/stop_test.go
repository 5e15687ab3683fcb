// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"context"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

func TestAStopWhoseButtonHangsIsForcedAtItsDeadline(t *testing.T) {
	w := newWorld(t)
	_, c := w.running("a")
	defer w.hypervisor.Block("PowerButton")()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := w.svc.StopContainer(ctx, c, 30*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if got := w.exit(c); got.Code != 137 {
		t.Errorf("exit = %+v", got)
	}
}

func TestAStopThatFoundNoLibvirtGoesOnWhenItIsBack(t *testing.T) {
	w := newWorld(t)
	w.hypervisor.IgnorePowerButton()
	sb, c := w.running("a")
	stopped := make(chan error, 1)
	go func() { stopped <- w.svc.StopContainer(t.Context(), c, 100*time.Millisecond) }()
	if err := w.hypervisor.WaitCall(t.Context(), "PowerButton "+sb); err != nil {
		t.Fatal(err)
	}
	w.hypervisor.Disconnect()
	mustBe(t, <-stopped, errdefs.ErrUnavailable)
	w.hypervisor.Reconnect()
	if got := w.exit(c); got.Code != 137 || got.Reason != vm.ReasonKilled {
		t.Errorf("exit = %+v", got)
	}
}
