// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// grown is a persistent disk of 4 MiB on an image of 1 MiB that is full of a letter.
func grown(t *testing.T, d *Disks, path string) vm.Disk {
	t.Helper()
	backing := base(t, vm.FormatQCOW2, vm.MiB)
	run(t, "qemu-io", "-f", "qcow2", "-c", "write -P 0x61 0 1M", backing)
	disk := vm.Disk{Path: path, Backing: backing, BackingFormat: vm.FormatQCOW2, Size: 4 * vm.MiB}
	noError(t, d.CreateRoot(t.Context(), disk))
	return disk
}

func TestAGrownDiskKeepsWhatWasOnIt(t *testing.T) {
	d, node := newDisks(t)
	disk := grown(t, d, node.PersistentDisk(id))
	run(t, "qemu-io", "-f", "qcow2", "-c", "write -P 0x62 2M 1M", disk.Path)
	disk.Size = 64 * vm.MiB
	noError(t, d.GrowRoot(t.Context(), disk))
	if got, want := infoOf(t, disk.Path), (info{"qcow2", 64 * vm.MiB, disk.Backing, "qcow2"}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for _, pattern := range []string{"read -P 0x61 0 1M", "read -P 0 1M 1M", "read -P 0x62 2M 1M", "read -P 0 3M 61M"} {
		run(t, "qemu-io", "-f", "qcow2", "-c", pattern, disk.Path)
	}
	run(t, "qemu-img", "check", "-q", disk.Path)
	if st, err := os.Stat(disk.Path); err != nil || st.Mode() != ownMode {
		t.Errorf("mode %v (%v), want %v", st.Mode(), err, ownMode)
	}
}

func TestADiskGrowsWithoutItsBackingFile(t *testing.T) {
	d, node := newDisks(t)
	disk := grown(t, d, node.PersistentDisk(id))
	noError(t, os.Remove(disk.Backing)) // whatever the header names is not opened
	disk.Size = 5*vm.MiB + 1
	noError(t, d.GrowRoot(t.Context(), disk))
	if head, err := d.header(place{node.Disks(), id, filepath.Base(disk.Path)}); err != nil || head.size != 5*vm.MiB+512 {
		t.Errorf("%d bytes, %v; want whole sectors", head.size, err)
	}
}

func TestADiskThatAnotherFileIsBehindDoesNotGrow(t *testing.T) {
	d, node := newDisks(t)
	disk := grown(t, d, node.PersistentDisk(id))
	f, err := os.OpenFile(disk.Path, os.O_RDWR, 0)
	noError(t, err)
	var features [8]byte
	binary.BigEndian.PutUint64(features[:], qcow2DataFile)
	_, err = f.WriteAt(features[:], qcow2FeaturesAt)
	noError(t, err)
	noError(t, f.Close())
	disk.Size = 64 * vm.MiB
	if err := d.GrowRoot(t.Context(), disk); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("got %v, want FailedPrecondition", err)
	}
	noError(t, os.WriteFile(disk.Path, []byte("no disk any more"), 0o600))
	if err := d.GrowRoot(t.Context(), disk); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("no qcow2: got %v, want FailedPrecondition", err)
	}
}

func TestNothingLeadsOutOfTheFolderOfADisk(t *testing.T) {
	d, node := newDisks(t)
	disk := grown(t, d, node.PersistentDisk(id))
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	noError(t, os.Rename(disk.Path, elsewhere))
	noError(t, os.Symlink(elsewhere, disk.Path))
	disk.Size = 64 * vm.MiB
	if err := d.GrowRoot(t.Context(), disk); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("got %v, want FailedPrecondition", err)
	}
	if got := infoOf(t, elsewhere).Virtual; got != 4*vm.MiB {
		t.Errorf("the file outside has %d bytes now", got)
	}
	noError(t, d.RemoveDisk(t.Context(), id))
	if _, err := os.Stat(elsewhere); err != nil {
		t.Error(err)
	}
}
