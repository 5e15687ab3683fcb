// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/lifecycle"
	"github.com/vmlet/vmlet/pkg/lifecycle/lifecycletest"
	"github.com/vmlet/vmlet/pkg/paths"
	"github.com/vmlet/vmlet/pkg/vm"
)

var _ lifecycle.Disks = (*Disks)(nil)

const id = "0123456789abcdef0123456789abcdef"

func newDisks(t *testing.T) (*Disks, paths.Node) {
	t.Helper()
	node := paths.Node{Root: t.TempDir()}
	d, err := New(Config{Paths: node, Checkpoints: []string{checkpointDir(t)}})
	if err != nil {
		t.Fatal(err)
	}
	return d, node
}

// checkpointDir is the test's folder for checkpoints.
func checkpointDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(os.TempDir(), "vmlet-"+strings.NewReplacer("/", "-", " ", "-").Replace(t.Name()))
	if err := os.Mkdir(dir, 0o700); err == nil {
		t.Cleanup(func() { noError(t, os.RemoveAll(dir)) })
	} else if !os.IsExist(err) {
		t.Fatal(err)
	}
	return dir
}

// base makes a base image and returns its file.
func base(t *testing.T, format vm.DiskFormat, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "base")
	run(t, "qemu-img", "create", "-q", "-f", string(format), path, strconv.FormatInt(size, 10))
	return path
}

func run(t *testing.T, args ...string) []byte {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return out
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestDisksKeepTheContract(t *testing.T) {
	lifecycletest.RunDisks(t, func(t *testing.T) lifecycletest.DisksHost {
		t.Helper()
		d, node := newDisks(t)
		const mark = "written by a guest"
		return lifecycletest.DisksHost{
			Disks: d, Paths: node,
			Image: func(t *testing.T, size int64) (string, vm.DiskFormat) {
				t.Helper()
				return base(t, vm.FormatQCOW2, size), vm.FormatQCOW2
			},
			LoseImage: func(t *testing.T, path string) { t.Helper(); noError(t, os.Remove(path)) },
			Size:      func(t *testing.T, path string) int64 { t.Helper(); return infoOf(t, path).Virtual },
			Exists: func(t *testing.T, path string) bool {
				t.Helper()
				_, err := os.Lstat(path)
				return err == nil
			},
			Mark: func(t *testing.T, path string) {
				t.Helper()
				f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
				noError(t, err)
				_, err = f.WriteString(mark)
				noError(t, err)
				noError(t, f.Close())
			},
			Put: func(t *testing.T, path string, block int, value byte) {
				t.Helper()
				run(t, "qemu-io", "-c", fmt.Sprintf("write -q -P %d %dk 64k", value, block*64), path)
			},
			Get: func(t *testing.T, path string, block int) byte {
				t.Helper()
				return readBlock(t, path, block)
			},
			Marked: func(t *testing.T, path string) bool {
				t.Helper()
				b, err := os.ReadFile(path)
				noError(t, err)
				return bytes.Contains(b, []byte(mark))
			},
			CheckpointDir: checkpointDir,
			MakeFolder:    func(t *testing.T, dir string) { t.Helper(); noError(t, os.Mkdir(dir, 0o700)) },
			Spoil:         spoil,
			Memory:        saveMemory,
		}
	})
}

// readBlock reads the first byte of a block of 64 KiB as a guest would, and sees that the others are alike.
func readBlock(t *testing.T, path string, block int) byte {
	t.Helper()
	for _, value := range []byte{'a', 'b', 'c', 0} {
		read := fmt.Sprintf("read -P %d %dk 64k", value, block*64)
		out, err := exec.CommandContext(t.Context(), "qemu-io", "-r", "-c", read, path).CombinedOutput()
		if err == nil {
			return value
		}
		if !bytes.Contains(out, []byte("verification failed")) {
			t.Fatalf("%s of %s: %v: %s", read, path, err, out)
		}
	}
	return 0xff
}

// info is what qemu-img says of a disk.
type info struct {
	Format        string `json:"format"`
	Virtual       int64  `json:"virtual-size"`
	Backing       string `json:"backing-filename"`
	BackingFormat string `json:"backing-filename-format"`
}

func infoOf(t *testing.T, path string) (got info) {
	t.Helper()
	noError(t, json.Unmarshal(run(t, "qemu-img", "info", "--output=json", path), &got))
	return got
}

func TestARootDiskIsAnOverlayOfTheLargerSize(t *testing.T) {
	for _, tc := range []struct {
		format     vm.DiskFormat
		base, asks int64
		want       int64
	}{
		{vm.FormatQCOW2, vm.MiB, 4 * vm.MiB, 4 * vm.MiB},
		{vm.FormatQCOW2, 8 * vm.MiB, 4 * vm.MiB, 8 * vm.MiB},
		{vm.FormatQCOW2, 8 * vm.MiB, 0, 8 * vm.MiB},
		{vm.FormatRaw, vm.MiB, 4 * vm.MiB, 4 * vm.MiB},
		{vm.FormatRaw, 8 * vm.MiB, 0, 8 * vm.MiB},
		{vm.FormatRaw, 512, 1024 * vm.GiB, 1024 * vm.GiB},
	} {
		d, node := newDisks(t)
		backing := base(t, tc.format, tc.base)
		path := node.RootDisk(id, "main", "sha256:00112233445566")
		noError(t, d.CreateRoot(t.Context(), vm.Disk{Path: path, Backing: backing, BackingFormat: tc.format, Size: tc.asks}))
		got := infoOf(t, path)
		if want := (info{"qcow2", tc.want, backing, string(tc.format)}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		run(t, "qemu-img", "check", "-q", path)
		if st, err := os.Stat(path); err != nil || st.Mode() != 0o600 {
			t.Errorf("mode %v (%v), want 0600", st.Mode(), err)
		}
		onlyFiles(t, node, filepath.Base(path))
	}
}

// onlyFiles checks what is in the folder of the sandbox.
func onlyFiles(t *testing.T, node paths.Node, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(node.Sandbox(id))
	noError(t, err)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the sandbox holds %v, want %v", got, want)
	}
}

func TestARootDiskThatCannotBeMadeLeavesNothing(t *testing.T) {
	d, node := newDisks(t)
	path := node.RootDisk(id, "main", "sha256:00112233445566")
	text := filepath.Join(t.TempDir(), "text")
	noError(t, os.WriteFile(text, []byte("this is no qcow2 file, but long enough for a header"), 0o600))
	good := base(t, vm.FormatQCOW2, vm.MiB)
	for name, tc := range map[string]struct {
		disk  vm.Disk
		class func(error) bool
	}{
		"a backing file that is gone":       {vm.Disk{Backing: good + "x", BackingFormat: vm.FormatQCOW2}, errdefs.IsNotFound},
		"a backing file of another format":  {vm.Disk{Backing: text, BackingFormat: vm.FormatQCOW2}, errdefs.IsFailedPrecondition},
		"a backing file of no known format": {vm.Disk{Backing: good, BackingFormat: "vmdk"}, errdefs.IsInvalidArgument},
		"a backing file of half a path":     {vm.Disk{Backing: "base", BackingFormat: vm.FormatQCOW2}, errdefs.IsInvalidArgument},
		"more than qcow2 can hold":          {vm.Disk{Backing: good, BackingFormat: vm.FormatQCOW2, Size: 1<<63 - 512}, func(err error) bool { return err != nil && strings.Contains(err.Error(), "qemu-img") }},
	} {
		tc.disk.Path = path
		if err := d.CreateRoot(t.Context(), tc.disk); !tc.class(err) {
			t.Errorf("%s: got %v", name, err)
		}
		onlyFiles(t, node)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.CreateRoot(ctx, vm.Disk{Path: path, Backing: good, BackingFormat: vm.FormatQCOW2}); !errdefs.IsCanceled(err) {
		t.Errorf("given up: %v", err)
	}

	t.Setenv("PATH", t.TempDir())
	if err := d.CreateRoot(t.Context(), vm.Disk{Path: path, Backing: good, BackingFormat: vm.FormatQCOW2}); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("without qemu-img: got %v, want FailedPrecondition", err)
	}
	onlyFiles(t, node)
}

func TestAnEndedContextEndsQEMUImg(t *testing.T) {
	d, node := newDisks(t)
	backing := base(t, vm.FormatRaw, vm.MiB)
	bin, begun := t.TempDir(), filepath.Join(t.TempDir(), "begun")
	noError(t, syscall.Mkfifo(begun, 0o600))
	noError(t, os.WriteFile(filepath.Join(bin, "qemu-img"), []byte("#!/bin/sh\necho >"+begun+"\nexec sleep 60\n"), 0o700))
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer cancel()
		if _, err := os.ReadFile(begun); err != nil { // waits for the other end
			t.Error(err)
		}
	}()
	err := d.CreateRoot(ctx, vm.Disk{Path: node.RootDisk(id, "main", "sha256:00112233445566"), Backing: backing, BackingFormat: vm.FormatRaw})
	if !errdefs.IsCanceled(err) {
		t.Errorf("got %v, want Canceled", err)
	}
	onlyFiles(t, node)
}

func TestADiskThatACrashLeftHalfMadeIsMadeAnew(t *testing.T) {
	d, node := newDisks(t)
	path := node.RootDisk(id, "main", "sha256:00112233445566")
	noError(t, os.Mkdir(node.Sandbox(id), 0o700))
	noError(t, os.WriteFile(filepath.Join(node.Sandbox(id), "."+filepath.Base(path)+".part"), []byte("half"), 0o666))
	noError(t, d.CreateRoot(t.Context(), vm.Disk{Path: path, Backing: base(t, vm.FormatRaw, vm.MiB), BackingFormat: vm.FormatRaw}))
	run(t, "qemu-img", "check", "-q", path)
	onlyFiles(t, node, filepath.Base(path))
	if st, err := os.Stat(node.Sandbox(id)); err != nil || st.Mode().Perm() != 0o710 {
		t.Errorf("the folder has mode %v (%v)", st.Mode(), err)
	}
}

func TestFilesAreOpenToQEMUAndNobodyElse(t *testing.T) {
	d, node := newDisks(t)
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	noError(t, d.WriteSeed(t.Context(), node.Seed(id), []byte("secret")))
	noError(t, d.CreateSpool(t.Context(), node.ConsoleSpool(id, "c1")))
	for path, want := range map[string]os.FileMode{
		node.Sandboxes(): 0o711, node.Sandbox(id): 0o710, node.Seed(id): 0o640, node.ConsoleSpool(id, "c1"): 0o600,
	} {
		st, err := os.Stat(path)
		noError(t, err)
		if st.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v", path, st.Mode().Perm(), want)
		}
	}
	if b, err := os.ReadFile(node.Seed(id)); err != nil || string(b) != "secret" {
		t.Errorf("the seed is %q (%v)", b, err)
	}
}

func TestNothingLeadsOutOfTheFolder(t *testing.T) {
	d, node := newDisks(t)
	outside := t.TempDir()
	victim := filepath.Join(outside, "victim")
	noError(t, os.WriteFile(victim, []byte("precious"), 0o600))
	intact := func(what string) {
		t.Helper()
		if b, err := os.ReadFile(victim); err != nil || string(b) != "precious" {
			t.Errorf("%s: the file outside is %q (%v)", what, b, err)
		}
		if entries, err := os.ReadDir(outside); err != nil || len(entries) != 1 {
			t.Errorf("%s: outside there is %v (%v)", what, entries, err)
		}
	}

	// The folder of a sandbox is a symlink.
	noError(t, os.Symlink(outside, node.Sandbox(id)))
	path := filepath.Join(node.Sandbox(id), "victim")
	if err := d.WriteSeed(t.Context(), path, []byte("x")); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("WriteSeed: got %v", err)
	}
	if err := d.CreateSpool(t.Context(), path+"2"); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("CreateSpool: got %v", err)
	}
	if err := d.RemoveFile(t.Context(), path); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("RemoveFile: got %v", err)
	}
	if _, err := d.Usage(t.Context(), id); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("Usage: got %v", err)
	}
	if ids, err := d.List(t.Context()); err != nil || len(ids) != 0 {
		t.Errorf("List: %v (%v)", ids, err)
	}
	noError(t, d.RemoveSandbox(t.Context(), id))
	intact("a symlink for a folder")
	if _, err := os.Lstat(node.Sandbox(id)); !os.IsNotExist(err) {
		t.Errorf("the symlink is still there: %v", err)
	}

	// A file of the sandbox is a symlink, or its part is.
	noError(t, d.WriteSeed(t.Context(), node.Seed(id), []byte("x")))
	spool := node.ConsoleSpool(id, "c1")
	noError(t, os.Symlink(victim, spool))
	if err := d.CreateSpool(t.Context(), spool); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("CreateSpool on a symlink: got %v", err)
	}
	noError(t, os.Symlink(victim, filepath.Join(node.Sandbox(id), ".seed.iso.part")))
	noError(t, d.WriteSeed(t.Context(), node.Seed(id), []byte("y")))
	intact("a symlink for a part")
	noError(t, d.RemoveFile(t.Context(), spool))
	noError(t, os.Symlink(outside, filepath.Join(node.Sandbox(id), "elsewhere")))
	noError(t, d.RemoveSandbox(t.Context(), id))
	intact("removal")
}

func TestUsersAndGroupsByNameAndNumber(t *testing.T) {
	me, err := user.Current()
	noError(t, err)
	group, err := user.LookupGroupId(me.Gid)
	noError(t, err)
	uid, gid := os.Getuid(), os.Getgid()
	for _, tc := range []struct {
		user, group string
		want        owner
	}{
		{"", "", owner{uid, gid}}, {me.Username, group.Name, owner{uid, gid}}, {"64055", "107", owner{64055, 107}}, {"0", "", owner{0, gid}},
	} {
		if got, err := lookup(tc.user, tc.group); err != nil || got != tc.want {
			t.Errorf("%q, %q: got %+v (%v), want %+v", tc.user, tc.group, got, err, tc.want)
		}
	}
	for _, bad := range []Config{{User: "no-such-user"}, {Group: "no-such-group"}, {User: "-1"}, {Group: "4294967296"}} {
		bad.Paths = paths.Node{Root: t.TempDir()}
		if _, err := New(bad); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%+v: got %v, want InvalidArgument", bad, err)
		}
	}
}

func TestRootDisksAreNamedAsUsageLooksForThem(t *testing.T) {
	node := paths.Node{Root: "/x"}
	for _, path := range []string{node.RootDisk(id, "main", "sha256:00112233445566"), node.FreshDisk(id, id), node.PersistentDisk(id)} {
		if name := filepath.Base(path); !strings.HasPrefix(name, rootPrefix) {
			t.Errorf("%s does not begin with %s", name, rootPrefix)
		}
	}
}
