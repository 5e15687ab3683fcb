// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/lifecycle"
	"github.com/vmlet/vmlet/pkg/vm"
)

func TestAPanicInSharedWorkIsAnError(t *testing.T) {
	w := newWorld(t)
	w.die()
	var ill atomic.Bool
	ill.Store(true)
	w.adjust = func(d *lifecycle.Deps) {
		d.Observe = func(string, time.Duration, error) {
			if ill.Load() {
				panic("a defect")
			}
		}
	}
	w.start()
	_, err := w.svc.RunSandbox(t.Context(), podSpec("a"))
	mustBe(t, err, errdefs.ErrInternal)
	ill.Store(false)
	w.sandbox("b")
}

func TestTheSameAttemptFromAnotherImageIsNotTheFirstOne(t *testing.T) {
	w := newWorld(t)
	w.images.Add("registry.test/other:1")
	sb := w.sandbox("a")
	other := containerSpec(0)
	other.ImageRef = "registry.test/other:1"
	release := w.disks.Block("CreateRoot")
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { _, err := w.svc.CreateContainer(t.Context(), sb, containerSpec(0)); first <- err }()
	for len(w.disks.Calls()) == 0 {
		time.Sleep(time.Millisecond) // the disk's path, and so the call, is not known before
	}
	go func() { _, err := w.svc.CreateContainer(t.Context(), sb, other); second <- err }()
	release()
	if err := <-first; err != nil {
		t.Error(err)
	}
	mustBe(t, <-second, errdefs.ErrAlreadyExists)
}

func TestNothingBeginsAfterClose(t *testing.T) {
	w := newWorld(t)
	_, c := w.running("a")
	w.svc.Close()
	_, err := w.svc.RunSandbox(t.Context(), podSpec("b"))
	mustBe(t, err, errdefs.ErrUnavailable)
	mustBe(t, w.svc.StopContainer(t.Context(), c, time.Hour), errdefs.ErrUnavailable)
}

func TestCloseDoesNotWaitForEverForWorkThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		release := w.network.Block("Setup")
		ran := make(chan struct{})
		go func() {
			defer close(ran)
			if _, err := w.svc.RunSandbox(t.Context(), podSpec("a")); err != nil {
				t.Error(err) // in time after all
			}
		}()
		synctest.Wait()
		begin := time.Now()
		w.svc.Close()
		if took := time.Since(begin); took > time.Minute {
			t.Errorf("Close took %s", took)
		}
		release()
		<-ran
	})
}

func TestAStartThatTakesTooLongLeavesNothingBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb := w.sandbox("a")
		c := w.created(sb, 0)
		release := w.hypervisor.Block("Resume")
		err := w.svc.StartContainer(t.Context(), c)
		release()
		if err == nil {
			t.Fatal("no error")
		}
		if got := w.exit(c); got.Reason != vm.ReasonStartError {
			t.Errorf("exit = %+v", got)
		}
		if w.active(sb) || len(w.cgroups.Groups()) != 0 || len(w.consoles.Followed()) != 0 {
			t.Errorf("active %v, groups %v, consoles %v", w.active(sb), w.cgroups.Groups(), w.consoles.Followed())
		}
	})
}
