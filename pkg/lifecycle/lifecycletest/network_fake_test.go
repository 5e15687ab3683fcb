// SPDX-License-Identifier: Apache-2.0

package lifecycletest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/lifecycle/lifecycletest"
	"github.com/vmlet/vmlet/pkg/revert"
	"github.com/vmlet/vmlet/pkg/vm"
)

func TestFakeNetworkKeepsTheContract(t *testing.T) {
	lifecycletest.RunNetwork(t, func(*testing.T) lifecycletest.NetworkHost {
		fake := lifecycletest.NewNetwork()
		return lifecycletest.NetworkHost{
			Network:   fake,
			StartQEMU: func(*testing.T, vm.Network) {},
			LoseNetNS: func(_ *testing.T, id string) { fake.LoseNetNS(id) },
		}
	})
}

func TestFakeNetworkFailsAsPlanned(t *testing.T) {
	fake := lifecycletest.NewNetwork()
	req := vm.NetworkRequest{SandboxID: "a", Name: "n", Namespace: "ns"}
	planned := errors.New("planned")
	fake.FailNext("Setup", planned)
	fake.FailNext("Setup", fmt.Errorf("%w: %w", revert.ErrIncomplete, planned))
	for _, held := range []int{0, 1} {
		if _, err := fake.Setup(t.Context(), req); !errors.Is(err, planned) {
			t.Fatalf("error = %v", err)
		}
		if list, err := fake.List(t.Context()); err != nil || len(list) != held {
			t.Errorf("list %v, %v; want %d", list, err, held)
		}
	}
	if err := fake.Teardown(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	if _, err := fake.Setup(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	if got, want := fake.Calls()[:2], []string{"Setup a", "List"}; !slices.Equal(got, want) {
		t.Errorf("calls %v, want %v", got, want)
	}
}

func TestFakeNetworkBlocksUntilReleasedOrGivenUp(t *testing.T) {
	fake := lifecycletest.NewNetwork()
	release := fake.Block("Ready")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- fake.Ready(ctx) }()
	cancel()
	if err := <-done; !errdefs.IsCanceled(err) {
		t.Errorf("given up: error = %v", err)
	}
	go func() { done <- fake.Ready(t.Context()) }()
	release()
	release()
	if err := <-done; err != nil {
		t.Errorf("released: error = %v", err)
	}
	if err := fake.Ready(t.Context()); err != nil {
		t.Errorf("after release: error = %v", err)
	}
}
