// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
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

func TestAStopThatFailsIsTriedAgainByItself(t *testing.T) {
	w := newWorld(t)
	w.hypervisor.IgnorePowerButton()
	sb, c := w.running("a")
	graceful := make(chan error, 1)
	go func() { graceful <- w.svc.StopContainer(t.Context(), c, time.Hour) }()
	if err := w.hypervisor.WaitCall(t.Context(), "PowerButton "+sb); err != nil {
		t.Fatal(err)
	}
	w.hypervisor.FailNext("Destroy", errors.New("no"))
	if err := w.svc.StopContainer(t.Context(), c, 0); err == nil {
		t.Fatal("no error")
	}
	if err := <-graceful; err == nil {
		t.Error("the graceful stop was not told")
	}
	if got := w.exit(c); got.Code != 137 || got.Reason != vm.ReasonKilled {
		t.Errorf("exit = %+v", got)
	}
}

func TestAStopThatFailedIsTriedAtOnceWhenSomebodyAsksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		_, c := w.running("a")
		w.hypervisor.FailNext("Destroy", errors.New("no"))
		if err := w.svc.StopContainer(t.Context(), c, 0); err == nil {
			t.Fatal("no error")
		}
		begin := time.Now()
		if err := w.svc.StopContainer(t.Context(), c, 0); err != nil {
			t.Error(err)
		}
		if waited := time.Since(begin); waited != 0 {
			t.Errorf("it waited %s", waited)
		}
	})
}
