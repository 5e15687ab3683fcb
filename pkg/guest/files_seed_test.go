// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/vmlet/vmlet/pkg/vm"
)

func TestFilesForASeedAreThoseThatTheFoldersLinksShow(t *testing.T) {
	n := newNode(t)
	single := n.file("hosts", "127.0.0.1 localhost")
	folder := n.write("config", "v1", "one")
	n.file("config/..v1/below/deeper", "two")
	n.file("config/..v0/key", "left of a write that was cut short")
	got, err := (&Guest{}).ReadFiles([]vm.FileTree{
		{HostPath: single, GuestPath: "/etc/hosts"},
		{HostPath: folder, GuestPath: "/etc/config", Directory: true},
	})
	n.must(err)
	type file struct {
		Path, Content string
		ReadOnly      bool
	}
	var files []file
	for _, f := range got {
		if f.Mode != 0o644 {
			t.Errorf("%s has mode %o", f.Path, f.Mode)
		}
		files = append(files, file{f.Path, string(f.Content), f.ReadOnly})
	}
	want := []file{
		{"/etc/hosts", "127.0.0.1 localhost", false},
		{"/etc/config/below/deeper", "two", true},
		{"/etc/config/key", "one", true},
	}
	if diff := cmp.Diff(want, files); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestFilesForASeedThatAreNotThere(t *testing.T) {
	_, err := (&Guest{}).ReadFiles([]vm.FileTree{{HostPath: filepath.Join(t.TempDir(), "none"), GuestPath: "/x"}})
	if !errdefs.IsFailedPrecondition(err) {
		t.Errorf("got %v", err)
	}
}
