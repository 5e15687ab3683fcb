// SPDX-License-Identifier: Apache-2.0

//go:build integration

package libvirt

import (
	"testing"

	"github.com/vmlet/vmlet/pkg/lifecycle/lifecycletest"
)

func TestLibvirtKeepsTheContractOfHypervisor(t *testing.T) {
	lifecycletest.RunHypervisor(t, func(t *testing.T) lifecycletest.HypervisorHost {
		t.Helper()
		return lifecycletest.HypervisorHost{Hypervisor: newHypervisor(t, lifecycletest.HypervisorOwner)}
	})
	nothingIsLeft(t)
}
