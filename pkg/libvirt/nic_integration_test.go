// SPDX-License-Identifier: Apache-2.0

//go:build integration

package libvirt

import (
	"testing"

	virt "libvirt.org/go/libvirt"

	"github.com/vmlet/vmlet/pkg/vm"
)

// TestADefinedNICThatIsAnotherOne: a NIC that was detached from a machine that runs, and attached again, has its old tap and a new MAC.
// The next machine gets the new one.
func TestADefinedNICThatIsAnotherOne(t *testing.T) {
	h := newHypervisor(t, testOwner)
	g := newGuest(t, h, nil)
	ctx := testContext(t)
	nic := vm.NIC{Name: "eth1", Tap: "vml" + g.id[:10] + "1", MAC: "02:00:00:00:00:02", MTU: 1450}
	other := nic
	other.Tap, other.MAC = "vml"+g.id[:10]+"2", "02:00:00:00:00:03"
	g.must(h.DefineNICs(ctx, g.id, []vm.NIC{nic, other}))
	again := nic
	again.MAC = "02:00:00:00:00:04"
	for range 2 {
		g.must(h.DefineNICs(ctx, g.id, []vm.NIC{again, other}))
		g.withMonitor(func(dom *virt.Domain) {
			have, err := interfacesOf(dom, virt.DOMAIN_XML_INACTIVE)
			g.must(err)
			macs := map[string]string{}
			for i := range have {
				macs[tapOf(&have[i])] = have[i].MAC.Address
			}
			if len(have) != 2 || macs[nic.Tap] != again.MAC || macs[other.Tap] != other.MAC {
				t.Errorf("defined are %v", macs)
			}
		})
	}
}
