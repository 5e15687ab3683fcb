// SPDX-License-Identifier: Apache-2.0

package lifecycletest_test

import (
	"fmt"
	"testing"

	"github.com/vmlet/vmlet/pkg/lifecycle/lifecycletest"
	"github.com/vmlet/vmlet/pkg/vm"
)

func TestFakeSnapshotterKeepsTheContract(t *testing.T) {
	lifecycletest.RunSnapshotter(t, func(*testing.T) lifecycletest.SnapshotterHost {
		h, disks := lifecycletest.NewHypervisor(), lifecycletest.NewDisks()
		h.UseDisks(disks)
		made := 0
		return lifecycletest.SnapshotterHost{
			HypervisorHost: lifecycletest.HypervisorHost{Hypervisor: h},
			Image:          vm.BackingFile{Path: "/images/base", Format: vm.FormatRaw},
			Memory:         "/sandboxes/one/memory",
			NVRAM:          [2]string{"/sandboxes/one/first", "/sandboxes/one/second"},
			Exists:         func(path string) bool { _, there := disks.File(path); return there },
			Data: func(t *testing.T) string {
				t.Helper()
				if err := disks.CreateData(t.Context(), "/sandboxes/one/data", vm.MiB); err != nil {
					t.Fatal(err)
				}
				return "/sandboxes/one/data"
			},
			Overlay: func(t *testing.T, below vm.BackingFile) string {
				t.Helper()
				made++
				disk := vm.Disk{Path: fmt.Sprintf("/sandboxes/one/overlay-%d", made), Backing: below.Path, BackingFormat: below.Format, Size: vm.MiB}
				if err := disks.CreateRoot(t.Context(), disk); err != nil {
					t.Fatal(err)
				}
				return disk.Path
			},
		}
	})
}
