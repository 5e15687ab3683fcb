// SPDX-License-Identifier: Apache-2.0

//go:build integration

package libvirt

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/vmlet/vmlet/pkg/lifecycle/lifecycletest"
	"github.com/vmlet/vmlet/pkg/vm"
)

// rawDisk makes a disk that libvirt hands to QEMU's user.
func rawDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "disk.raw")
	if err := errors.Join(os.Chmod(dir, 0o711), os.Chmod(filepath.Dir(dir), 0o711), // QEMU's user walks through
		os.WriteFile(path, nil, 0o600), os.Truncate(path, vm.MiB)); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLibvirtKeepsTheContractOfHypervisor(t *testing.T) {
	lifecycletest.RunHypervisor(t, func(t *testing.T) lifecycletest.HypervisorHost {
		t.Helper()
		return lifecycletest.HypervisorHost{Hypervisor: newHypervisor(t, lifecycletest.HypervisorOwner), RawDisk: rawDisk}
	})
	nothingIsLeft(t)
}

func TestLibvirtKeepsTheContractOfScreens(t *testing.T) {
	lifecycletest.RunScreens(t, func(t *testing.T) lifecycletest.ScreensHost {
		t.Helper()
		h := newHypervisor(t, lifecycletest.HypervisorOwner)
		return lifecycletest.ScreensHost{HypervisorHost: lifecycletest.HypervisorHost{Hypervisor: h}, Screens: h}
	})
	nothingIsLeft(t)
}
