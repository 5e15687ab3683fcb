// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// nothingToAbort: what asks how far nothing is, or wants its end, does no harm.
func nothingToAbort(t *hypervisorTrial) {
	ctx := t.Context()
	t.refused("Progress", second(t.h.Progress(ctx, t.id)), errdefs.ErrNotFound)
	t.refused("AbortSaving", t.h.AbortSaving(ctx, t.id), errdefs.ErrNotFound)
	t.must(t.h.Define(ctx, t.machine()))
	t.refused("Progress", second(t.h.Progress(ctx, t.id)), errdefs.ErrFailedPrecondition)
	t.must(t.h.AbortSaving(ctx, t.id))
	t.must(t.h.Start(ctx, t.id))
	t.must(t.h.Resume(ctx, t.id))
	if p, err := t.h.Progress(ctx, t.id); err != nil || p != (vm.Progress{}) {
		t.Errorf("progress %+v, %v", p, err)
	}
	t.must(t.h.AbortSaving(ctx, t.id))
	t.state(vm.DomainRunning)
}

func second[T any](_ T, err error) error { return err }
