// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/lifecycle"
	"github.com/vmlet/vmlet/pkg/vm"
)

// whileBlocked fails the test if call returns before release.
func whileBlocked(t *testing.T, release func(), call func() error) error {
	t.Helper()
	returned := make(chan error, 1)
	go func() { returned <- call() }()
	synctest.Wait()
	select {
	case err := <-returned:
		t.Errorf("it returned while a step of it was under way: %v", err)
		release()
		return err
	default:
	}
	release()
	return <-returned
}

func TestAFailedCreateUndoesNothingWhileTheDiskIsBeingMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb := w.sandbox("a")
		release := w.disks.Block("CreateRoot")
		w.hypervisor.FailNext("Define", errors.New("libvirt said no"))
		err := whileBlocked(t, release, func() error {
			_, err := w.svc.CreateContainer(t.Context(), sb, containerSpec(0))
			return err
		})
		if err == nil {
			t.Error("no error")
		}
		if files := w.disks.Files(); len(files) != 0 {
			t.Errorf("files left: %v", files)
		}
	})
}

func TestAFailedStartUndoesNothingWhileQEMUIsBeingPlaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := w.created(w.sandbox("a"), 0)
		release := w.cgroups.Block("Place")
		w.network.FailNext("Wire", errors.New("no such tap"))
		if err := whileBlocked(t, release, func() error { return w.svc.StartContainer(t.Context(), c) }); err == nil {
			t.Error("no error")
		}
		if groups := w.cgroups.Groups(); len(groups) != 0 {
			t.Errorf("cgroups left: %v", groups)
		}
	})
}

// illDisks has a defect.
type illDisks struct{ lifecycle.Disks }

func (illDisks) CreateRoot(context.Context, vm.Disk) error { panic("a defect") }

func TestAPanicOfAStepBesideOthersIsAnError(t *testing.T) {
	w := newWorld(t)
	w.die()
	w.adjust = func(d *lifecycle.Deps) { d.Disks = illDisks{d.Disks} }
	w.start()
	sb := w.sandbox("a")
	_, err := w.svc.CreateContainer(t.Context(), sb, containerSpec(0))
	mustBe(t, err, errdefs.ErrInternal)
	if files := w.disks.Files(); len(files) != 0 {
		t.Errorf("files left: %v", files)
	}
}
