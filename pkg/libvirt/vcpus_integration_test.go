// SPDX-License-Identifier: Apache-2.0

//go:build integration

package libvirt

import (
	"testing"

	virt "libvirt.org/go/libvirt"
)

// The machine has got its CPU, and libvirtd ended before the definition did.
func TestADefinitionThatADeadLibvirtdHasLeftBehind(t *testing.T) {
	h := newHypervisor(t, testOwner)
	g := newGuest(t, h, nil)
	ctx := testContext(t)
	g.CPU.Max = 3
	g.must(h.Define(ctx, g.Machine))
	g.must(h.Start(ctx, g.id)) // its CPUs stay halted: nothing fills the translation cache
	g.withMonitor(func(dom *virt.Domain) {
		g.must(dom.SetVcpusFlags(2, virt.DOMAIN_VCPU_LIVE))
		for range 2 {
			size, err := h.AddVCPUs(ctx, g.id, 2)
			g.must(err)
			defined, err := dom.GetVcpusFlags(virt.DOMAIN_VCPU_CONFIG)
			g.must(err)
			if size.VCPUs != 2 || defined != 2 {
				t.Errorf("the machine has %d CPUs, its definition %d, want 2", size.VCPUs, defined)
			}
		}
	})
}
