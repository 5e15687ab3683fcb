// SPDX-License-Identifier: Apache-2.0

package lifecycletest_test

import (
	"errors"
	"strconv"
	"testing"

	"github.com/vmlet/vmlet/pkg/lifecycle/lifecycletest"
	"github.com/vmlet/vmlet/pkg/paths"
	"github.com/vmlet/vmlet/pkg/vm"
)

func TestFakeDisksKeepTheContract(t *testing.T) {
	lifecycletest.RunDisks(t, func(*testing.T) lifecycletest.DisksHost {
		fake, node := lifecycletest.NewDisks(), paths.Node{Root: "/var/lib/vmlet", State: "/run/vmlet"}
		fake.Confine(node)
		return lifecycletest.DisksHost{
			Disks: fake, Paths: node,
			Image:     func(*testing.T, int64) (string, vm.DiskFormat) { return "/images/base", vm.FormatQCOW2 },
			LoseImage: func(_ *testing.T, path string) { fake.LoseBacking(path) },
			Size:      func(_ *testing.T, path string) int64 { f, _ := fake.File(path); return f.Disk.Size },
			Exists:    func(_ *testing.T, path string) bool { _, there := fake.File(path); return there },
			Mark:      func(_ *testing.T, path string) { fake.Write(path) },
			Put: func(_ *testing.T, path string, block int, value byte) {
				fake.Put(path, strconv.Itoa(block), string(value))
			},
			Get: func(_ *testing.T, path string, block int) byte {
				if v := fake.Get(path, strconv.Itoa(block)); v != "" {
					return v[0]
				}
				return 0
			},
			Marked: func(_ *testing.T, path string) bool { f, _ := fake.File(path); return f.Written },

			CheckpointDir: func(*testing.T) string { return lifecycletest.Checkpoints },
			MakeFolder:    func(_ *testing.T, dir string) { fake.MakeFolder(dir) },
			Spoil:         func(_ *testing.T, dir, name string) { fake.SpoilCheckpoint(dir, name) },
			Memory:        func(_ *testing.T, path string) { fake.SaveMemory(path, "saved") },
		}
	})
}

func TestFakeDisksFailAsPlanned(t *testing.T) {
	fake, broken := lifecycletest.NewDisks(), errors.New("broken")
	fake.FailNext("WriteSeed", broken)
	if err := fake.WriteSeed(t.Context(), "/s/id/seed.iso", nil); !errors.Is(err, broken) || len(fake.Files()) != 0 {
		t.Errorf("got %v with %v", err, fake.Files())
	}
	if err := fake.WriteSeed(t.Context(), "/s/id/seed.iso", []byte("x")); err != nil || len(fake.Files()) != 1 {
		t.Errorf("got %v with %v", err, fake.Files())
	}
}
