// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"testing"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

func contractNIC(number int, name string) vm.NICRequest {
	return vm.NICRequest{Sandbox: contractRequest(1), Spec: vm.NICSpec{Name: name}, Number: number}
}

func mustAttach(t *testing.T, h NetworkHost, req vm.NICRequest) vm.NIC {
	t.Helper()
	nic, err := h.Network.AttachNIC(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return nic
}

func mustTakeDown(t *testing.T, h NetworkHost, nic vm.NIC) {
	t.Helper()
	for range 2 {
		if err := h.Network.TapDown(t.Context(), nic); err != nil {
			t.Fatal(err)
		}
	}
}

func sandboxIsAttachedOnceMore(t *testing.T, h NetworkHost) {
	t.Helper()
	n := mustSetup(t, h, 1)
	h.StartQEMU(t, n)
	if err := h.Network.Wire(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	for round := range 3 {
		req := contractNIC(1, "eth1")
		nic := mustAttach(t, h, req)
		if nic.Name != "eth1" || nic.MAC == n.NICs[0].MAC || nic.Tap == n.NICs[0].Tap || len(nic.IPs) == 0 || nic.IPs[0] == n.NICs[0].IPs[0] {
			t.Errorf("round %d: %+v beside %+v", round, nic, n.NICs[0])
		}
		if _, err := h.Network.AttachNIC(t.Context(), req); !errdefs.IsAlreadyExists(err) {
			t.Errorf("a second one: error = %v, want AlreadyExists", err)
		}
		both := n
		both.NICs = append(append([]vm.NIC(nil), n.NICs...), nic)
		h.StartQEMU(t, both)
		mustTakeDown(t, h, nic)
		if err := h.Network.Wire(t.Context(), n); err != nil {
			t.Fatal(err)
		}
		one := n
		one.NICs = []vm.NIC{nic}
		for range 2 {
			if err := h.Network.Wire(t.Context(), one); err != nil {
				t.Fatalf("wire it alone: %v", err)
			}
		}
		if err := h.Network.Wire(t.Context(), both); err != nil {
			t.Fatal(err)
		}
		mustTakeDown(t, h, nic)
		if stats, err := h.Network.Stats(t.Context(), both); err != nil || len(stats) != 2 || stats[1].Name != "eth1" {
			t.Errorf("counters %+v, %v", stats, err)
		}
		h.StartQEMU(t, n)
		for range 2 {
			if err := h.Network.DetachNIC(t.Context(), req); err != nil {
				t.Fatal(err)
			}
		}
		if err := h.Network.Check(t.Context(), n); err != nil {
			t.Errorf("the first one after it: %v", err)
		}
	}
	mustHold(t, h, 1)
	mustTeardown(t, h, n.Request)
	mustHold(t, h)
}

func teardownEndsAllAttachments(t *testing.T, h NetworkHost) {
	t.Helper()
	n := mustSetup(t, h, 1)
	for i, name := range []string{"eth1", "net2"} {
		mustAttach(t, h, contractNIC(i+1, name))
	}
	mustHold(t, h, 1)
	mustTeardown(t, h, n.Request)
	mustHold(t, h)
	// Nothing of them is in the way of what comes after.
	n = mustSetup(t, h, 1)
	mustAttach(t, h, contractNIC(1, "eth1"))
	h.LoseNetNS(t, n.Request.SandboxID)
	mustTeardown(t, h, n.Request)
	mustHold(t, h)
}

func nicOfALostNetNS(t *testing.T, h NetworkHost) {
	t.Helper()
	if _, err := h.Network.AttachNIC(t.Context(), contractNIC(1, "eth1")); !errdefs.IsNotFound(err) {
		t.Errorf("without a network: error = %v, want NotFound", err)
	}
	n := mustSetup(t, h, 1)
	mustAttach(t, h, contractNIC(1, "eth1"))
	h.LoseNetNS(t, n.Request.SandboxID)
	if _, err := h.Network.AttachNIC(t.Context(), contractNIC(2, "eth2")); !errdefs.IsNotFound(err) {
		t.Errorf("error = %v, want NotFound", err)
	}
	if err := h.Network.DetachNIC(t.Context(), contractNIC(1, "eth1")); err != nil {
		t.Errorf("detach: %v", err)
	}
	mustTeardown(t, h, n.Request)
	mustHold(t, h)
}

// nicThatCannotBe: what AttachNIC would refuse whatever there is, PlanNIC refuses too.
func nicThatCannotBe(t *testing.T, h NetworkHost) {
	t.Helper()
	n := mustSetup(t, h, 1)
	for name, spec := range map[string]vm.NICSpec{
		"no name": {}, "the pod's own": {Name: "eth0"}, "a path": {Name: "../x"}, "a long name": {Name: "abcdefghijklmnop"},
		"no address": {Name: "eth1", IPs: []string{"ten"}}, "another argument": {Name: "eth1", PortID: "p;K8S_POD_NAME=x"},
	} {
		if err := h.Network.PlanNIC(t.Context(), vm.NICRequest{Spec: spec}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: plan: error = %v, want InvalidArgument", name, err)
		}
		req := contractNIC(1, "")
		req.Spec = spec
		if _, err := h.Network.AttachNIC(t.Context(), req); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: error = %v, want InvalidArgument", name, err)
		}
	}
	mustTeardown(t, h, n.Request)
	mustHold(t, h)
}

// nicIsAskedForAgain: a NIC is planned for without a side effect, and one that was given back is asked for by the addresses that it
// had, with the configuration that it was attached by.
func nicIsAskedForAgain(t *testing.T, h NetworkHost) {
	t.Helper()
	req := contractNIC(1, "eth1")
	if err := h.Network.PlanNIC(t.Context(), vm.NICRequest{Spec: req.Spec}); err != nil {
		t.Errorf("plan: %v", err)
	}
	unknown := req
	unknown.Spec.Network = "no-such-network"
	if err := h.Network.PlanNIC(t.Context(), unknown); !errdefs.IsNotFound(err) {
		t.Errorf("plan for an unknown network: error = %v, want NotFound", err)
	}
	mustHold(t, h)
	n := mustSetup(t, h, 1)
	if _, err := h.Network.NICConfig(t.Context(), n.Request.SandboxID, "eth1"); !errdefs.IsNotFound(err) {
		t.Errorf("configuration of none: error = %v, want NotFound", err)
	}
	had := mustAttach(t, h, req)
	config, err := h.Network.NICConfig(t.Context(), n.Request.SandboxID, "eth1")
	if err != nil || len(config) == 0 {
		t.Fatalf("configuration: %q, %v", config, err)
	}
	if err := h.Network.DetachNIC(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	req.Config, req.MAC, req.IPs = config, had.MAC, []string{had.IPs[0].Prefix.String()}
	if got := mustAttach(t, h, req); got.MAC != had.MAC || got.IPs[0].Prefix.Addr() != had.IPs[0].Prefix.Addr() {
		t.Errorf("again: %+v, had %+v", got, had)
	}
	mustTeardown(t, h, n.Request)
	mustHold(t, h)
}
