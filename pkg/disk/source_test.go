// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/pkg/paths"
	"github.com/vmlet/vmlet/pkg/vm"
)

// newSources makes an adapter that allows a folder, with QEMU running as another user, and that folder.
func newSources(t *testing.T) (*Disks, string) {
	t.Helper()
	root := t.TempDir()
	for dir := root; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		noError(t, os.Chmod(dir, 0o755)) // QEMU's user walks through
	}
	allowed := filepath.Join(root, "allowed")
	noError(t, os.MkdirAll(filepath.Join(allowed, "sub"), 0o755))
	d, err := New(Config{Paths: paths.Node{Root: filepath.Join(root, "vmlet")}, User: "64055", Group: "64056", Allowed: []string{allowed}})
	noError(t, err)
	return d, allowed
}

// put makes a raw file of 1 MiB that anybody can write to.
func put(t *testing.T, path string) string {
	t.Helper()
	noError(t, os.WriteFile(path, nil, 0o600))
	noError(t, os.Truncate(path, vm.MiB))
	noError(t, os.Chmod(path, 0o666))
	return path
}

func TestASourceIsLookedAt(t *testing.T) {
	d, dir := newSources(t)
	raw := put(t, filepath.Join(dir, "sub", "raw"))
	found, err := d.Source(t.Context(), raw, vm.FormatRaw, false)
	noError(t, err)
	if found.Size != vm.MiB || found.Block || !strings.HasPrefix(found.Identity, "file ") {
		t.Errorf("got %+v", found)
	}
	link := filepath.Join(dir, "hardlink")
	noError(t, os.Link(raw, link))
	same, err := d.Source(t.Context(), link, vm.FormatRaw, false)
	noError(t, err)
	if same.Identity != found.Identity {
		t.Errorf("one file is %q and %q", same.Identity, found.Identity)
	}
	image := filepath.Join(dir, "image")
	noError(t, qemuImg(t.Context(), "create", "-q", "-f", "qcow2", image, "3M"))
	noError(t, os.Chmod(image, 0o644))
	if found, err = d.Source(t.Context(), image, vm.FormatQCOW2, true); err != nil || found.Size != 3*vm.MiB {
		t.Errorf("got %+v, %v", found, err)
	}
	before := ownerOf(t, raw)
	if _, err := d.Source(t.Context(), raw, vm.FormatRaw, false); err != nil || ownerOf(t, raw) != before {
		t.Errorf("%v; it belongs to %v, before to %v", err, ownerOf(t, raw), before)
	}
}

func ownerOf(t *testing.T, path string) [3]uint32 {
	t.Helper()
	var st unix.Stat_t
	noError(t, unix.Stat(path, &st))
	return [3]uint32{st.Uid, st.Gid, st.Mode}
}

func TestSourcesThatAreRefused(t *testing.T) {
	d, dir := newSources(t)
	put(t, filepath.Join(dir, "raw"))
	for name, tc := range map[string]struct {
		make   func(path string) // path is in the allowed folder
		path   string            // "" for that
		format vm.DiskFormat
		read   bool
		class  func(error) bool
		says   string
	}{
		"elsewhere":           {path: "/etc/hostname", says: "disks.allowedPaths allows"},
		"beside the folder":   {path: dir + "-not/raw", says: "disks.allowedPaths allows"},
		"vmlet's own":         {path: d.sandboxes + "/a/b", says: "vmlet's own"},
		"a climbing path":     {path: dir + "/../allowed/raw", class: errdefs.IsInvalidArgument, says: "clean"},
		"nothing":             {class: errdefs.IsNotFound, says: "no such file"},
		"a symbolic link":     {make: func(p string) { noError(t, os.Symlink(filepath.Join(dir, "raw"), p)) }, says: "symbolic link"},
		"a link on the way":   {make: func(p string) { noError(t, os.Symlink(filepath.Join(dir, "sub"), p)) }, path: dir + "/a link on the way/x", says: "symbolic link"},
		"a folder":            {make: func(p string) { noError(t, os.Mkdir(p, 0o755)) }, says: "neither a regular file nor a block device"},
		"a pipe":              {make: func(p string) { noError(t, syscall.Mkfifo(p, 0o666)) }, says: "neither a regular file nor a block device"},
		"a character device":  {make: func(p string) { noError(t, unix.Mknod(p, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3)))) }, says: "neither a regular file nor a block device"},
		"an unreadable one":   {make: func(p string) { put(t, p); noError(t, os.Chmod(p, 0o600)) }, says: "64055 cannot read and write it"},
		"an unwritable one":   {make: func(p string) { put(t, p); noError(t, os.Chmod(p, 0o644)) }, says: "setfacl -m u:64055:rw"},
		"an unreadable, read": {make: func(p string) { put(t, p); noError(t, os.Chmod(p, 0o600)) }, read: true, says: "cannot read it"},
		"an odd size":         {make: func(p string) { put(t, p); noError(t, os.Truncate(p, 1000)) }, says: "multiple of 512"},
		"an empty one":        {make: func(p string) { put(t, p); noError(t, os.Truncate(p, 0)) }, says: "multiple of 512"},
		"raw that is qcow2": {make: func(p string) {
			noError(t, qemuImg(t.Context(), "create", "-q", "-f", "qcow2", p, "1M"))
			noError(t, os.Chmod(p, 0o666))
		}, says: "said to be raw and is qcow2"},
		"qcow2 that is raw": {make: func(p string) { put(t, p) }, format: vm.FormatQCOW2, says: "no qcow2"},
		"a backing file": {make: func(p string) {
			noError(t, qemuImg(t.Context(), "create", "-q", "-f", "qcow2", "-u", "-F", "raw", "-b", "/etc/shadow", p, "1M"))
			noError(t, os.Chmod(p, 0o666))
		}, format: vm.FormatQCOW2, says: "backing file"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, name)
			if tc.make != nil {
				tc.make(path)
			}
			if tc.path != "" {
				path = tc.path
			}
			if tc.format == "" {
				tc.format = vm.FormatRaw
			}
			if tc.class == nil {
				tc.class = errdefs.IsFailedPrecondition
			}
			_, err := d.Source(t.Context(), path, tc.format, tc.read)
			if err == nil || !tc.class(err) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v, want %q", err, tc.says)
			}
		})
	}
	d.allowed = nil
	if _, err := d.Source(t.Context(), filepath.Join(dir, "raw"), vm.FormatRaw, false); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "no path is allowed on this node") {
		t.Errorf("without a list: %v", err)
	}
}

// TestAFileThatCouldBeSwappedIsRefused: whoever can write to a folder on the way can put a link to another VM's disk there
// after it was looked at.
func TestAFileThatCouldBeSwappedIsRefused(t *testing.T) {
	d, dir := newSources(t)
	raw := put(t, filepath.Join(dir, "sub", "raw"))
	for name, spoil := range map[string]func(folder string) error{
		"writable by all":     func(folder string) error { return os.Chmod(folder, 0o777) },
		"writable by a group": func(folder string) error { return os.Chmod(folder, 0o775) },
		"another user's":      func(folder string) error { return os.Chown(folder, 64055, 0) },
	} {
		for _, folder := range []string{dir, filepath.Join(dir, "sub")} {
			noError(t, spoil(folder))
			if _, err := d.Source(t.Context(), raw, vm.FormatRaw, false); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), folder+" can be written by others") {
				t.Errorf("%s, %s: %v", folder, name, err)
			}
			noError(t, os.Chmod(folder, 0o755))
			noError(t, os.Chown(folder, 0, 0))
		}
	}
	_, err := d.Source(t.Context(), raw, vm.FormatRaw, false)
	noError(t, err)
}
