// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"context"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// briefly is a time in which nothing happens.
const briefly = 300 * time.Millisecond

func (t *hypervisorTrial) nic(number string) vm.NIC {
	return vm.NIC{Name: "eth" + number, Tap: "vml" + t.id[:10] + number, MAC: "02:00:00:00:00:0" + number, MTU: 1450}
}

func (t *hypervisorTrial) has(want bool, nics ...vm.NIC) {
	t.Helper()
	for _, nic := range nics {
		if got, err := t.h.HasNIC(t.Context(), t.id, nic); err != nil || got != want {
			t.Errorf("HasNIC %s: %v, %v, want %v", nic.Name, got, err, want)
		}
	}
}

// nicsThatArePlugged: a guest whose CPUs are halted lets go of nothing.
func nicsThatArePlugged(t *hypervisorTrial) {
	ctx, one := t.Context(), t.nic("1")
	t.must(t.h.UnplugNIC(ctx, t.id, one)) // nothing has it
	t.must(t.h.UnplugSurplus(ctx, t.id, nil))
	t.must(t.h.Define(ctx, t.machine()))
	t.refused("PlugNIC", t.h.PlugNIC(ctx, t.id, one), errdefs.ErrFailedPrecondition)
	t.refused("SetLink", t.h.SetLink(ctx, t.id, one), errdefs.ErrFailedPrecondition)
	t.must(t.h.UnplugNIC(ctx, t.id, one))
	t.has(false, one)

	t.must(t.h.Start(ctx, t.id))
	t.refused("SetLink", t.h.SetLink(ctx, t.id, one), errdefs.ErrNotFound)
	for range 2 {
		t.must(t.h.PlugNIC(ctx, t.id, one))
	}
	t.has(true, one)
	for _, down := range []bool{false, true, true, false} {
		one.Down = down
		t.must(t.h.SetLink(ctx, t.id, one))
	}
	for range 2 { // it was asked already
		soon, cancel := context.WithTimeout(ctx, briefly)
		t.refused("UnplugNIC", t.h.UnplugNIC(soon, t.id, one), context.DeadlineExceeded)
		cancel()
		t.has(true, one)
	}
	t.must(t.h.UnplugSurplus(ctx, t.id, []vm.NIC{one}))
	t.has(true, one)
	soon, cancel := context.WithTimeout(ctx, briefly)
	t.refused("UnplugSurplus", t.h.UnplugSurplus(soon, t.id, nil), context.DeadlineExceeded)
	cancel()
	t.must(t.h.DefineNICs(ctx, t.id, nil)) // what runs is left alone
	t.has(true, one)
	t.must(t.h.Destroy(ctx, t.id))
	t.has(false, one)
	t.must(t.h.UnplugNIC(ctx, t.id, one))
	t.must(t.h.Start(ctx, t.id))
	t.has(false, one) // the definition was left alone
}

// nicsThatAreDefined: the next machine has exactly those.
func nicsThatAreDefined(t *hypervisorTrial) {
	ctx, one, two := t.Context(), t.nic("1"), t.nic("2")
	t.refused("DefineNICs", t.h.DefineNICs(ctx, t.id, nil), errdefs.ErrNotFound)
	m := t.machine()
	m.NICs = []vm.NIC{one}
	t.must(t.h.Define(ctx, m))
	boot := func(nics ...vm.NIC) {
		t.Helper()
		for range 2 {
			t.must(t.h.DefineNICs(ctx, t.id, nics))
		}
		t.must(t.h.Start(ctx, t.id))
		t.has(true, nics...)
	}
	boot(one, two)
	t.must(t.h.Destroy(ctx, t.id))
	two.Down = true
	boot(two)
	t.has(false, one)
	two.Down = false
	t.must(t.h.SetLink(ctx, t.id, two))
	t.must(t.h.Destroy(ctx, t.id))
	boot()
	t.has(false, one, two)
}
