// SPDX-License-Identifier: Apache-2.0

//go:build integration

package libvirt

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/vmlet/vmlet/pkg/lifecycle/lifecycletest"
	"github.com/vmlet/vmlet/pkg/vm"
)

func TestLibvirtKeepsTheContractOfSnapshotter(t *testing.T) {
	lifecycletest.RunSnapshotter(t, func(t *testing.T) lifecycletest.SnapshotterHost {
		t.Helper()
		image := vm.BackingFile{Path: rawDisk(t), Format: vm.FormatRaw}
		dir := filepath.Dir(image.Path)
		// Images are for all to read; libvirt is not to change whose they are.
		if err := os.Chmod(image.Path, 0o644); err != nil {
			t.Fatal(err)
		}
		made := 0
		return lifecycletest.SnapshotterHost{
			HypervisorHost: lifecycletest.HypervisorHost{Hypervisor: newHypervisor(t, lifecycletest.HypervisorOwner)},
			Image:          image,
			Memory:         filepath.Join(dir, "memory.save"),
			NVRAM:          [2]string{filepath.Join(dir, "first.nvram"), filepath.Join(dir, "second.nvram")},
			Exists:         func(path string) bool { _, err := os.Lstat(path); return err == nil },
			Data: func(t *testing.T) string {
				t.Helper()
				path := filepath.Join(dir, "data.qcow2")
				out, err := exec.CommandContext(t.Context(), "qemu-img", "create", "-q", "-f", "qcow2", path, "1M").CombinedOutput()
				if err = errors.Join(err, os.Chmod(path, 0o666)); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				return path
			},
			Overlay: func(t *testing.T, below vm.BackingFile) string {
				t.Helper()
				made++
				path := filepath.Join(dir, fmt.Sprintf("overlay-%d.qcow2", made))
				out, err := exec.CommandContext(t.Context(), "qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", string(below.Format), "-b", below.Path, path, "1M").CombinedOutput()
				// libvirt gives and takes files by rules of its own, which here is no matter.
				if err = errors.Join(err, os.Chmod(path, 0o666)); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				return path
			},
		}
	})
	nothingIsLeft(t)
}
