// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/paths"
	"github.com/vmlet/vmlet/pkg/saveimage"
	"github.com/vmlet/vmlet/pkg/vm"
)

// saveMemory writes what libvirt saves a guest's memory to, as far as we read it.
func saveMemory(t *testing.T, path string) {
	t.Helper()
	noError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	head := make([]byte, 92+100)
	copy(head, "LibvirtQemudSave")
	binary.NativeEndian.PutUint32(head[16:], 2)
	binary.NativeEndian.PutUint32(head[20:], 100)
	copy(head[92:], "<domain/>")
	noError(t, os.WriteFile(path, slices.Concat(head, []byte("the memory")), 0o600))
}

// spoil changes one byte of a file.
func spoil(t *testing.T, dir, name string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR, 0)
	noError(t, err)
	b := make([]byte, 1)
	info, err := f.Stat()
	noError(t, err)
	_, err = f.ReadAt(b, info.Size()-1)
	noError(t, err)
	_, err = f.WriteAt([]byte{b[0] ^ 1}, info.Size()-1)
	noError(t, err)
	noError(t, f.Close())
}

func TestOnlyRootReadsACheckpoint(t *testing.T) {
	d, node := newDisks(t)
	dir := checkpointDir(t) + "/one"
	memory := node.SnapshotMemory(id, "s1")
	saveMemory(t, memory)
	where, err := d.PlanCheckpoint(t.Context(), dir)
	noError(t, err)
	file, err := d.WriteCheckpoint(t.Context(), where, vm.CheckpointMemory, memory, func(vm.Progress) {})
	noError(t, err)
	if _, err := os.Lstat(dir); err == nil {
		t.Error("the folder is there before all that is to be in it")
	}
	noError(t, d.EndCheckpoint(t.Context(), where, vm.Checkpoint{Version: 1, ID: "x", Files: []vm.CheckpointFile{file}}))
	for path, want := range map[string]os.FileMode{
		dir: 0o700, dir + "/" + vm.CheckpointMemory: 0o600, dir + "/" + vm.CheckpointManifest: 0o600,
	} {
		info, err := os.Lstat(path)
		noError(t, err)
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %o", path, info.Mode())
		}
	}
	noError(t, d.RemoveCheckpoint(t.Context(), where, "x"))
	if left, err := os.ReadDir(checkpointDir(t)); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
}

func TestTheMemoryIsAnothersAndNothingElseOfIt(t *testing.T) {
	d, node := newDisks(t)
	dir := checkpointDir(t) + "/one"
	from, to := node.SnapshotMemory(id, "s1"), node.SnapshotMemory(id, "s2")
	saveMemory(t, from)
	where, err := d.PlanCheckpoint(t.Context(), dir)
	noError(t, err)
	file, err := d.WriteCheckpoint(t.Context(), where, vm.CheckpointMemory, from, func(vm.Progress) {})
	noError(t, err)
	noError(t, d.EndCheckpoint(t.Context(), where, vm.Checkpoint{Version: 1}))
	noError(t, d.FetchMemory(t.Context(), dir, file, to, func(string) (string, error) { return "<domain>other</domain>", nil }))
	f, err := os.Open(to)
	noError(t, err)
	head, err := saveimage.Read(f)
	noError(t, err)
	rest := make([]byte, 20)
	n, err := f.Read(rest)
	noError(t, err)
	if head.XML != "<domain>other</domain>" || string(rest[:n]) != "the memory" {
		t.Errorf("got %q and %q", head.XML, rest[:n])
	}
	noError(t, f.Close())
}

// TestCheckpointsAreFoundByNoLink, and in no folder that others could write to.
func TestCheckpointsAreFoundByNoLink(t *testing.T) {
	root := checkpointDir(t)
	d, err := New(Config{Paths: paths.Node{Root: t.TempDir()}, Checkpoints: []string{root}})
	noError(t, err)
	noError(t, os.Mkdir(root+"/real", 0o700))
	noError(t, os.Mkdir(root+"/open", 0o700))
	noError(t, os.Chmod(root+"/open", 0o777))
	noError(t, os.Symlink(root+"/real", root+"/link"))
	noError(t, os.WriteFile(root+"/file", nil, 0o600))
	for dir, words := range map[string]string{
		"/link": "symbolic link", "/link/below": "symbolic link", "/open": "by others than root", "/open/below": "by others than root", "/file": "no folder",
	} {
		_, planErr := d.PlanCheckpoint(t.Context(), root+dir)
		_, readErr := d.ReadCheckpoint(t.Context(), root+dir)
		for _, err := range []error{planErr, readErr} {
			if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), words) {
				t.Errorf("%s: %v", dir, err)
			}
		}
	}
	if _, err := d.PlanCheckpoint(t.Context(), root+"/none/below"); !errdefs.IsNotFound(err) {
		t.Errorf("in a folder that is not there: %v", err)
	}
	noError(t, os.Symlink("/etc/hostname", root+"/real/"+vm.CheckpointManifest))
	if _, err := d.ReadCheckpoint(t.Context(), root+"/real"); err == nil {
		t.Error("a manifest was read through a link")
	}
	noError(t, os.Remove(root+"/real/"+vm.CheckpointManifest))
	noError(t, os.WriteFile(root+"/real/"+vm.CheckpointManifest, []byte(`{"version":1}`), 0o666))
	noError(t, os.Chmod(root+"/real/"+vm.CheckpointManifest, 0o666))
	if _, err := d.ReadCheckpoint(t.Context(), root+"/real"); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("a manifest that anybody could write: %v", err)
	}
}

// TestOlderCheckpointsAreRead, and those of a later vmlet are not taken for one.
func TestOlderCheckpointsAreRead(t *testing.T) {
	d, node := newDisks(t)
	from := node.SnapshotMemory(id, "s1")
	saveMemory(t, from)
	for version, read := range map[int]bool{0: false, 1: true, vm.CheckpointVersion: true, vm.CheckpointVersion + 1: false} {
		dir := fmt.Sprintf("%s/%d", checkpointDir(t), version)
		where, err := d.PlanCheckpoint(t.Context(), dir)
		noError(t, err)
		c := vm.Checkpoint{Version: version, ID: "x"}
		for _, name := range []string{vm.CheckpointMemory, vm.CheckpointDisk} {
			file, err := d.WriteCheckpoint(t.Context(), where, name, from, func(vm.Progress) {})
			noError(t, err)
			c.Files = append(c.Files, file)
		}
		noError(t, d.EndCheckpoint(t.Context(), where, c))
		if _, err := d.ReadCheckpoint(t.Context(), dir); (err == nil) != read || err != nil && !errdefs.IsFailedPrecondition(err) {
			t.Errorf("version %d: %v", version, err)
		}
	}
}
