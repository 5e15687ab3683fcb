// SPDX-License-Identifier: Apache-2.0

//go:build integration

package disk

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/pkg/paths"
	"github.com/vmlet/vmlet/pkg/vm"
)

func TestAFullDiskLeavesNothingHalfMade(t *testing.T) {
	root := t.TempDir()
	noError(t, unix.Mount("tmpfs", root, "tmpfs", 0, "size=1M"))
	t.Cleanup(func() { noError(t, unix.Unmount(root, unix.MNT_DETACH)) })
	node := paths.Node{Root: root}
	d, err := New(Config{Paths: node})
	noError(t, err)
	noError(t, d.WriteSeed(t.Context(), node.Seed(id), []byte("old")))
	if err := d.WriteSeed(t.Context(), node.Seed(id), make([]byte, 2<<20)); !errdefs.IsResourceExhausted(err) {
		t.Errorf("seed: got %v, want ResourceExhausted", err)
	}
	if b, err := os.ReadFile(node.Seed(id)); err != nil || string(b) != "old" {
		t.Errorf("the old seed is %d bytes (%v)", len(b), err)
	}
	// Nothing is left for the tables of a qcow2.
	noError(t, os.WriteFile(filepath.Join(root, "filler"), make([]byte, 1<<20-64<<10), 0o600))
	disk := vm.Disk{
		Path: node.RootDisk(id, "main", "sha256:00112233445566"), Backing: base(t, vm.FormatRaw, vm.MiB), BackingFormat: vm.FormatRaw, Size: 8 << 40,
	}
	if err := d.CreateRoot(t.Context(), disk); !errdefs.IsResourceExhausted(err) {
		t.Errorf("root disk: got %v, want ResourceExhausted", err)
	}
	onlyFiles(t, node, "seed.iso")
}

const (
	qemuUID = 64055
	qemuGID = 64056
)

func TestQEMUsUserReachesItsFilesAndNothingElse(t *testing.T) {
	root := t.TempDir()
	noError(t, os.Chmod(filepath.Dir(root), 0o711)) // its user walks through
	node := paths.Node{Root: root}
	d, err := New(Config{Paths: node, User: "64055", Group: "64056"})
	noError(t, err)
	disk := node.RootDisk(id, "main", "sha256:00112233445566")
	backing := filepath.Join(root, "base")
	noError(t, os.Rename(base(t, vm.FormatQCOW2, vm.MiB), backing))
	noError(t, os.Chmod(backing, 0o444))
	spool := node.ConsoleSpool(id, "c1")
	noError(t, d.CreateRoot(t.Context(), vm.Disk{Path: disk, Backing: backing, BackingFormat: vm.FormatQCOW2}))
	kept := vm.Disk{Path: node.PersistentDisk(id), Backing: backing, BackingFormat: vm.FormatQCOW2}
	noError(t, d.CreateRoot(t.Context(), kept))
	kept.Size = 8 * vm.MiB
	noError(t, d.GrowRoot(t.Context(), kept))
	noError(t, d.WriteSeed(t.Context(), node.Seed(id), []byte("secret")))
	noError(t, d.CreateSpool(t.Context(), spool))
	for path, want := range map[string][2]uint32{
		node.Disks(): {0, 0}, filepath.Dir(kept.Path): {0, qemuGID}, kept.Path: {qemuUID, qemuGID},
		node.Sandboxes(): {0, 0}, node.Sandbox(id): {0, qemuGID}, disk: {qemuUID, qemuGID}, spool: {qemuUID, qemuGID}, node.Seed(id): {0, qemuGID},
	} {
		var st unix.Stat_t
		noError(t, unix.Stat(path, &st))
		if got := [2]uint32{st.Uid, st.Gid}; got != want {
			t.Errorf("%s belongs to %v, want %v", path, got, want)
		}
	}
	as := func(uid, gid uint32, command ...string) error {
		cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
		return cmd.Run()
	}
	for _, command := range [][]string{
		{"qemu-io", "-f", "qcow2", "-c", "write 0 4096", disk},
		{"qemu-io", "-f", "qcow2", "-c", "write 0 4096", kept.Path},
		{"cat", node.Seed(id)},
		{"sh", "-c", "echo line >> " + spool},
	} {
		if err := as(qemuUID, qemuGID, command...); err != nil {
			t.Errorf("%s: %v", strings.Join(command, " "), err)
		}
		if err := as(qemuUID+9, qemuGID+9, command...); err == nil {
			t.Errorf("%s: went through for another user", strings.Join(command, " "))
		}
	}
	for _, command := range [][]string{
		{"ls", node.Sandboxes()}, {"ls", node.Sandbox(id)}, {"ls", node.Disks()}, {"ls", filepath.Dir(kept.Path)}, {"rm", "-f", kept.Path},
		{"sh", "-c", "echo x >> " + node.Seed(id)},
		{"rm", "-f", node.Seed(id)}, {"rm", "-f", disk},
		{"ln", "-s", "/etc/shadow", node.Sandbox(id) + "/link"},
		{"mv", spool, node.Sandbox(id) + "/elsewhere"},
		{"mkdir", node.Sandboxes() + "/other"},
	} {
		if err := as(qemuUID, qemuGID, command...); err == nil {
			t.Errorf("%s: went through", strings.Join(command, " "))
		}
	}
}
