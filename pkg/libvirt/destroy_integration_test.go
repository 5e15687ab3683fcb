// SPDX-License-Identifier: Apache-2.0

//go:build integration

package libvirt

import (
	"syscall"
	"testing"
	"time"
)

// TestAButtonThatNobodyHeardHoldsUpNoForcedStop: QEMU ends while libvirt waits for its answer to the power button. libvirt
// gives the domain to Destroy only when it has heard of that end.
func TestAButtonThatNobodyHeardHoldsUpNoForcedStop(t *testing.T) {
	h := newHypervisor(t, testOwner)
	g := newGuest(t, h, nil)
	g.start()
	pid := g.pid()
	g.must(syscall.Kill(pid, syscall.SIGSTOP))
	pressed := make(chan error, 1)
	go func() { pressed <- h.PowerButton(testContext(t), g.id) }()
	// Nothing tells that libvirt has sent the button to QEMU.
	time.Sleep(300 * time.Millisecond)
	end := time.AfterFunc(300*time.Millisecond, func() {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Error(err)
		}
	})
	defer end.Stop()
	began := time.Now()
	if err := h.Destroy(testContext(t), g.id); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("Destroy took %s", took)
	}
	t.Logf("the button: %v", <-pressed)
}
