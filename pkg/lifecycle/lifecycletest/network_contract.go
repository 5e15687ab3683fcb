// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/vmlet/vmlet/pkg/lifecycle"
	"github.com/vmlet/vmlet/pkg/vm"
)

// NetworkHost is a lifecycle.Network with the host around it.
type NetworkHost struct {
	Network lifecycle.Network
	// StartQEMU stands in for a new QEMU: it makes the taps of a sandbox's NICs in the
	// host's network namespace, after those of an earlier one are gone.
	StartQEMU func(t *testing.T, n vm.Network)
	// LoseNetNS takes a sandbox's namespace away, as a reboot of the host does.
	LoseNetNS func(t *testing.T, id string)
}

// RunNetwork is the contract of lifecycle.Network. open returns one that holds nothing.
func RunNetwork(t *testing.T, open func(t *testing.T) NetworkHost) {
	t.Helper()
	for name, run := range map[string]func(*testing.T, NetworkHost){
		"it is ready":                              networkIsReady,
		"a guest can be made of what it returns":   networkIsComplete,
		"two sandboxes share nothing":              networksAreApart,
		"many may be set up at once":               networksAtOnce,
		"a second setup is AlreadyExists":          secondSetupIsRefused,
		"a setup that is given up leaves nothing":  cancelledSetupLeavesNothing,
		"an empty ID is InvalidArgument":           emptyIDIsRefused,
		"check finds nothing wrong":                checkIsContent,
		"wire is idempotent, for each QEMU":        wireIsIdempotent,
		"a lost netns is NotFound":                 lostNetNSIsNotFound,
		"a lost netns can be torn down":            lostNetNSIsTornDown,
		"teardown is idempotent":                   teardownIsIdempotent,
		"after teardown it can be set up again":    setupAfterTeardown,
		"teardown works from the list":             teardownFromList,
		"each NIC is counted, wired or not":        eachNICIsCounted,
		"a network nobody set up is not there":     unknownNetworkIsNotFound,
		"a context that has ended ends every call": endedContextEndsCalls,
		"a sandbox can be attached once more":      sandboxIsAttachedOnceMore,
		"what cannot be a NIC":                     nicThatCannotBe,
		"a NIC is asked for again":                 nicIsAskedForAgain,
		"teardown ends all attachments":            teardownEndsAllAttachments,
		"a NIC of a lost netns is NotFound":        nicOfALostNetNS,
	} {
		t.Run(name, func(t *testing.T) { run(t, open(t)) })
	}
}

func contractRequest(nth int) vm.NetworkRequest {
	return vm.NetworkRequest{
		SandboxID: fmt.Sprintf("%02xc0ffee%024x", nth, nth),
		Name:      fmt.Sprintf("web-%d", nth),
		Namespace: "shop",
		UID:       fmt.Sprintf("uid-%d", nth),
		DNS:       vm.DNSConfig{Servers: []string{"10.0.0.10"}, Searches: []string{"shop.svc"}},
	}
}

func mustSetup(t *testing.T, h NetworkHost, nth int) vm.Network {
	t.Helper()
	n, err := h.Network.Setup(t.Context(), contractRequest(nth))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func mustTeardown(t *testing.T, h NetworkHost, req vm.NetworkRequest) {
	t.Helper()
	if err := h.Network.Teardown(t.Context(), req); err != nil {
		t.Fatal(err)
	}
}

// mustHold compares the list with the requests of the sandboxes that are numbered.
func mustHold(t *testing.T, h NetworkHost, numbers ...int) {
	t.Helper()
	got, err := h.Network.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := make([]vm.NetworkRequest, 0, len(numbers))
	for _, nth := range numbers {
		want = append(want, contractRequest(nth))
	}
	byID := func(a, b vm.NetworkRequest) int { return strings.Compare(a.SandboxID, b.SandboxID) }
	slices.SortFunc(got, byID)
	slices.SortFunc(want, byID)
	if len(got) == 0 && len(want) == 0 {
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("list (-want +got):\n%s", diff)
	}
}

func networkIsReady(t *testing.T, h NetworkHost) {
	t.Helper()
	if err := h.Network.Ready(t.Context()); err != nil {
		t.Error(err)
	}
}

func networkIsComplete(t *testing.T, h NetworkHost) {
	t.Helper()
	n := mustSetup(t, h, 1)
	if diff := cmp.Diff(contractRequest(1), n.Request); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
	if n.NetNS == "" || len(n.NICs) == 0 {
		t.Fatalf("network %+v has no netns or no NIC", n)
	}
	nic := n.NICs[0]
	if mac, err := net.ParseMAC(nic.MAC); err != nil || len(mac) != 6 || mac[0]&1 != 0 {
		t.Errorf("%q is no station's MAC", nic.MAC)
	}
	if nic.Name == "" || nic.Tap == "" || len(nic.Tap) > 15 || nic.MTU < 68 || len(nic.IPs) == 0 {
		t.Errorf("NIC %+v lacks something", nic)
	}
	for _, ip := range nic.IPs {
		if !ip.Prefix.IsValid() || ip.Prefix.Addr().IsUnspecified() || ip.Prefix.Addr() == ip.Gateway {
			t.Errorf("address %+v", ip)
		}
	}
	mustTeardown(t, h, n.Request)
}

func networksAreApart(t *testing.T, h NetworkHost) {
	t.Helper()
	a, b := mustSetup(t, h, 1), mustSetup(t, h, 2)
	mustHold(t, h, 1, 2)
	for name, pair := range map[string][2]string{
		"netns": {a.NetNS, b.NetNS}, "tap": {a.NICs[0].Tap, b.NICs[0].Tap}, "MAC": {a.NICs[0].MAC, b.NICs[0].MAC},
		"address": {a.IPs()[0].String(), b.IPs()[0].String()},
	} {
		if pair[0] == pair[1] {
			t.Errorf("both have the %s %s", name, pair[0])
		}
	}
	mustTeardown(t, h, a.Request)
	mustHold(t, h, 2)
	if err := h.Network.Check(t.Context(), b); err != nil {
		t.Errorf("the other one's teardown did this: %v", err)
	}
	mustTeardown(t, h, b.Request)
}

func networksAtOnce(t *testing.T, h NetworkHost) {
	t.Helper()
	const many = 6
	var mu sync.Mutex
	seen := map[netip.Addr]int{}
	var wg sync.WaitGroup
	for nth := range many {
		wg.Go(func() {
			n, err := h.Network.Setup(t.Context(), contractRequest(nth))
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			seen[n.IPs()[0]]++
		})
	}
	wg.Wait()
	if len(seen) != many {
		t.Errorf("%d sandboxes have the addresses %v", many, seen)
	}
	for nth := range many {
		wg.Go(func() {
			if err := h.Network.Teardown(t.Context(), contractRequest(nth)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	mustHold(t, h)
}

func secondSetupIsRefused(t *testing.T, h NetworkHost) {
	t.Helper()
	n := mustSetup(t, h, 1)
	if _, err := h.Network.Setup(t.Context(), n.Request); !errdefs.IsAlreadyExists(err) {
		t.Errorf("error = %v, want AlreadyExists", err)
	}
	mustHold(t, h, 1)
	if err := h.Network.Check(t.Context(), n); err != nil {
		t.Errorf("the refused setup did this to the first: %v", err)
	}
	mustTeardown(t, h, n.Request)
}

func cancelledSetupLeavesNothing(t *testing.T, h NetworkHost) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Network.Setup(ctx, contractRequest(1)); err == nil {
		t.Error("no error")
	}
	mustHold(t, h)
}

func emptyIDIsRefused(t *testing.T, h NetworkHost) {
	t.Helper()
	req := contractRequest(1)
	req.SandboxID = ""
	if _, err := h.Network.Setup(t.Context(), req); !errdefs.IsInvalidArgument(err) {
		t.Errorf("error = %v, want InvalidArgument", err)
	}
	mustHold(t, h)
}

func checkIsContent(t *testing.T, h NetworkHost) {
	t.Helper()
	n := mustSetup(t, h, 1)
	if err := h.Network.Check(t.Context(), n); err != nil {
		t.Errorf("before a VM: %v", err)
	}
	h.StartQEMU(t, n)
	if err := h.Network.Wire(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	if err := h.Network.Check(t.Context(), n); err != nil {
		t.Errorf("with a VM: %v", err)
	}
	mustTeardown(t, h, n.Request)
}

func wireIsIdempotent(t *testing.T, h NetworkHost) {
	t.Helper()
	n := mustSetup(t, h, 1)
	for range 2 {
		h.StartQEMU(t, n)
		for range 2 {
			if err := h.Network.Wire(t.Context(), n); err != nil {
				t.Fatal(err)
			}
		}
	}
	mustTeardown(t, h, n.Request)
}

func lostNetNSIsNotFound(t *testing.T, h NetworkHost) {
	t.Helper()
	n := mustSetup(t, h, 1)
	mustBePresent(t, h, n.Request.SandboxID, true)
	h.LoseNetNS(t, n.Request.SandboxID)
	mustBePresent(t, h, n.Request.SandboxID, false)
	mustBeNotFound(t, h, n)
	mustHold(t, h, 1) // what CNI holds for it is still to be freed
	mustTeardown(t, h, n.Request)
}

func mustBePresent(t *testing.T, h NetworkHost, id string, want bool) {
	t.Helper()
	present, err := h.Network.Present(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if present[id] != want {
		t.Errorf("present = %v, want the sandbox to be there: %v", present, want)
	}
}

func mustBeNotFound(t *testing.T, h NetworkHost, n vm.Network) {
	t.Helper()
	if err := h.Network.Check(t.Context(), n); !errdefs.IsNotFound(err) {
		t.Errorf("check: error = %v, want NotFound", err)
	}
	if err := h.Network.Wire(t.Context(), n); !errdefs.IsNotFound(err) {
		t.Errorf("wire: error = %v, want NotFound", err)
	}
	if _, err := h.Network.Stats(t.Context(), n); !errdefs.IsNotFound(err) {
		t.Errorf("stats: error = %v, want NotFound", err)
	}
}

func lostNetNSIsTornDown(t *testing.T, h NetworkHost) {
	t.Helper()
	n := mustSetup(t, h, 1)
	h.LoseNetNS(t, n.Request.SandboxID)
	mustTeardown(t, h, n.Request)
	mustHold(t, h)
}

func teardownIsIdempotent(t *testing.T, h NetworkHost) {
	t.Helper()
	mustTeardown(t, h, contractRequest(9))
	n := mustSetup(t, h, 1)
	for range 3 {
		mustTeardown(t, h, n.Request)
		mustHold(t, h)
	}
}

func setupAfterTeardown(t *testing.T, h NetworkHost) {
	t.Helper()
	for range 2 {
		n := mustSetup(t, h, 1)
		mustTeardown(t, h, n.Request)
	}
}

func teardownFromList(t *testing.T, h NetworkHost) {
	t.Helper()
	mustSetup(t, h, 1)
	mustSetup(t, h, 2)
	requests, err := h.Network.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, req := range requests {
		mustTeardown(t, h, req)
	}
	mustHold(t, h)
}

func eachNICIsCounted(t *testing.T, h NetworkHost) {
	t.Helper()
	n := mustSetup(t, h, 1)
	for _, state := range []string{"closed", "wired"} {
		if state == "wired" {
			h.StartQEMU(t, n)
			if err := h.Network.Wire(t.Context(), n); err != nil {
				t.Fatal(err)
			}
		}
		stats, err := h.Network.Stats(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		if len(stats) != len(n.NICs) || stats[0].Name != n.NICs[0].Name {
			t.Errorf("%s: counters %+v for the NICs %+v", state, stats, n.NICs)
		}
	}
	mustTeardown(t, h, n.Request)
}

func unknownNetworkIsNotFound(t *testing.T, h NetworkHost) {
	t.Helper()
	n := mustSetup(t, h, 1)
	mustTeardown(t, h, n.Request)
	mustBeNotFound(t, h, n)
	mustHold(t, h)
}

func endedContextEndsCalls(t *testing.T, h NetworkHost) {
	t.Helper()
	n := mustSetup(t, h, 1)
	h.StartQEMU(t, n)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, statsErr := h.Network.Stats(ctx, n)
	_, listErr := h.Network.List(ctx)
	_, presentErr := h.Network.Present(ctx)
	for call, err := range map[string]error{
		"Check": h.Network.Check(ctx, n), "Wire": h.Network.Wire(ctx, n), "Stats": statsErr, "List": listErr, "Present": presentErr,
		"TapDown": h.Network.TapDown(ctx, n.NICs[0]), "Teardown": h.Network.Teardown(ctx, n.Request),
	} {
		if !errdefs.IsCanceled(err) {
			t.Errorf("%s: error = %v, want Canceled", call, err)
		}
	}
	mustTeardown(t, h, n.Request)
}
