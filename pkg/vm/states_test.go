// SPDX-License-Identifier: Apache-2.0

package vm_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

func TestSandboxMovesOnlyAlongTheArrows(t *testing.T) {
	states := []vm.SandboxState{
		vm.SandboxCreating, vm.SandboxReady, vm.SandboxBroken, vm.SandboxStopping, vm.SandboxNotReady, vm.SandboxRemoving,
	}
	arrows := map[vm.SandboxState][]vm.SandboxState{
		vm.SandboxCreating: {vm.SandboxReady, vm.SandboxBroken, vm.SandboxStopping},
		vm.SandboxReady:    {vm.SandboxStopping, vm.SandboxNotReady},
		vm.SandboxBroken:   {vm.SandboxStopping},
		vm.SandboxStopping: {vm.SandboxNotReady},
		vm.SandboxNotReady: {vm.SandboxStopping, vm.SandboxRemoving},
		vm.SandboxRemoving: {},
	}
	for _, from := range states {
		for _, to := range states {
			got, err := vm.SandboxStatus{State: from, Message: "kept"}.To(to)
			if from == to || slices.Contains(arrows[from], to) {
				if err != nil || got.State != to || got.Message != "kept" {
					t.Errorf("%s -> %s: %+v, %v", from, to, got, err)
				}
				continue
			}
			if !errors.Is(err, errdefs.ErrFailedPrecondition) || got.State != from {
				t.Errorf("%s -> %s: %+v, %v; want FailedPrecondition", from, to, got, err)
			}
		}
	}
}

func TestContainerMovesOnlyAlongTheArrows(t *testing.T) {
	states := []vm.ContainerState{
		vm.ContainerCreating, vm.ContainerCreated, vm.ContainerStarting, vm.ContainerRunning, vm.ContainerExited, vm.ContainerRemoving,
	}
	arrows := map[vm.ContainerState][]vm.ContainerState{
		vm.ContainerCreating: {vm.ContainerCreated},
		vm.ContainerCreated:  {vm.ContainerStarting, vm.ContainerExited, vm.ContainerRemoving},
		vm.ContainerStarting: {vm.ContainerRunning, vm.ContainerExited},
		vm.ContainerRunning:  {vm.ContainerExited},
		vm.ContainerExited:   {vm.ContainerRemoving},
		vm.ContainerRemoving: {},
	}
	for _, from := range states {
		for _, to := range states {
			got, err := vm.ContainerStatus{State: from}.To(to)
			if from == to || slices.Contains(arrows[from], to) {
				if err != nil || got.State != to {
					t.Errorf("%s -> %s: %+v, %v", from, to, got, err)
				}
				continue
			}
			if !errors.Is(err, errdefs.ErrFailedPrecondition) || got.State != from {
				t.Errorf("%s -> %s: %+v, %v; want FailedPrecondition", from, to, got, err)
			}
		}
	}
}

func TestDomainNamesFitQEMUsSocketPath(t *testing.T) {
	sb := vm.Sandbox{ID: "0123456789abcdef0123456789abcdef"}
	if got := sb.UUID(); got != "01234567-89ab-cdef-0123-456789abcdef" {
		t.Errorf("UUID = %s", got)
	}
	if got := sb.DomainName(); got != "vmlet-0123456789ab" {
		t.Errorf("name = %s", got)
	}
}

func TestASandboxIsStoppedOnceItHoldsNothing(t *testing.T) {
	for _, tc := range []struct {
		state   vm.SandboxState
		network *vm.Network
		want    bool
	}{
		{vm.SandboxCreating, nil, false},
		{vm.SandboxReady, &vm.Network{}, false},
		{vm.SandboxBroken, nil, false},
		{vm.SandboxStopping, nil, false},
		{vm.SandboxNotReady, &vm.Network{}, false}, // its netns is gone, and its VM may run
		{vm.SandboxNotReady, nil, true},
		{vm.SandboxRemoving, nil, true},
	} {
		if got := (vm.SandboxStatus{State: tc.state, Network: tc.network}).Stopped(); got != tc.want {
			t.Errorf("%s with network %v: %v, want %v", tc.state, tc.network, got, tc.want)
		}
	}
}

func TestNoTwoDisksHaveOneName(t *testing.T) {
	names := map[string]vm.DiskKey{}
	for _, k := range []vm.DiskKey{
		{Namespace: "a", PodUID: "b", Container: "c"},
		{Namespace: "a", Claim: "b", Container: "c"},
		{Namespace: "a", Claim: "b.c", Container: "d"},
		{Namespace: "a.b", Claim: "c", Container: "d"},
		{Tenant: "t", Namespace: "a", Claim: "b", Container: "c"},
		{Tenant: "u", Namespace: "a", Claim: "b", Container: "c"},
		{Tenant: "t", Namespace: "a", PodUID: "b", Container: "c"},
		{Namespace: "a", Claim: "b", Container: "c.d"},
	} {
		if other, taken := names[k.Name()]; taken {
			t.Errorf("%+v and %+v are both %s", k, other, k.Name())
		}
		names[k.Name()] = k
	}
}
