// SPDX-License-Identifier: Apache-2.0

//go:build integration

package libvirt

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

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

// firmwareRan waits until SeaBIOS, which is through with copying itself within some milliseconds, has had a CPU for much longer.
func firmwareRan(t *testing.T, h *Hypervisor, id string) {
	t.Helper()
	used := func() time.Duration {
		all, err := h.Stats(testContext(t))
		i := slices.IndexFunc(all, func(s vm.DomainStats) bool { return s.SandboxID == id })
		if err != nil || i < 0 {
			t.Fatalf("statistics of %s: %+v, %v", id, all, err)
		}
		return time.Duration(all[i].CPUTime)
	}
	for began, deadline := used(), time.Now().Add(patience); used() < began+200*time.Millisecond; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the firmware of %s has used %s of a CPU", id, used()-began)
		}
	}
}

func TestLibvirtKeepsTheContractOfHypervisor(t *testing.T) {
	lifecycletest.RunHypervisor(t, func(t *testing.T) lifecycletest.HypervisorHost {
		t.Helper()
		h := newHypervisor(t, lifecycletest.HypervisorOwner)
		return lifecycletest.HypervisorHost{Hypervisor: h, RawDisk: rawDisk, FirmwareRan: func(t *testing.T, id string) {
			t.Helper()
			firmwareRan(t, h, id)
		}}
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
