// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/vmlet/vmlet/pkg/paths"
	"github.com/vmlet/vmlet/pkg/vm"
)

// BenchmarkCreateRoot compares CreateRoot with the qemu-img that does the work in it.
func BenchmarkCreateRoot(b *testing.B) {
	node := paths.Node{Root: b.TempDir()}
	d, err := New(Config{Paths: node})
	if err != nil {
		b.Fatal(err)
	}
	backing := filepath.Join(b.TempDir(), "base")
	if err := exec.CommandContext(b.Context(), "qemu-img", "create", "-q", "-f", "qcow2", backing, "1G").Run(); err != nil {
		b.Fatal(err)
	}
	b.Run("floor", func(b *testing.B) {
		dir := b.TempDir()
		for i := 0; b.Loop(); i++ {
			path := fmt.Sprintf("%s/%d", dir, i)
			if err := exec.CommandContext(b.Context(), "qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", backing, path, "2G").Run(); err != nil {
				b.Fatal(err)
			}
		}
	})
	i := 0
	b.Run("CreateRoot", func(b *testing.B) {
		for ; b.Loop(); i++ {
			disk := vm.Disk{Path: node.RootDisk(fmt.Sprintf("sb%d", i), "main", "sha256:001122334455"), Backing: backing, BackingFormat: vm.FormatQCOW2, Size: 2 * vm.GiB}
			if err := d.CreateRoot(b.Context(), disk); err != nil {
				b.Fatal(err)
			}
		}
	})
}
