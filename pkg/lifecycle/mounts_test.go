// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/vmlet/vmlet/pkg/vm"
)

func TestMountsAreJudgedByWhatTheyAreOnTheHost(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	err := errors.Join(
		os.WriteFile(at("hosts"), []byte("127.0.0.1"), 0o644),
		os.WriteFile(at("limit"), make([]byte, largestCopy), 0o644),
		os.WriteFile(at("big"), make([]byte, largestCopy+1), 0o644),
		os.Mkdir(at("data"), 0o755),
		os.Symlink("data", at("link")),
		os.MkdirAll(at("secret/..2026"), 0o755),
		os.Symlink("..2026", at("secret/..data")),
		os.MkdirAll(at("folder/..data"), 0o755),
	)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		mount vm.Mount
		file  *vm.FileTree
		share *vm.ShareMount
	}{
		"a small file":      {vm.Mount{HostPath: at("hosts")}, &vm.FileTree{HostPath: at("hosts")}, nil},
		"a read-only file":  {vm.Mount{HostPath: at("hosts"), ReadOnly: true}, &vm.FileTree{HostPath: at("hosts"), ReadOnly: true}, nil},
		"the largest":       {vm.Mount{HostPath: at("limit")}, &vm.FileTree{HostPath: at("limit")}, nil},
		"a larger file":     {vm.Mount{HostPath: at("big")}, nil, &vm.ShareMount{HostPath: at("big")}},
		"an atomic folder":  {vm.Mount{HostPath: at("secret"), ReadOnly: true}, &vm.FileTree{HostPath: at("secret"), Directory: true, ReadOnly: true}, nil},
		"no atomic folder":  {vm.Mount{HostPath: at("folder")}, nil, &vm.ShareMount{HostPath: at("folder")}},
		"a folder":          {vm.Mount{HostPath: at("data"), HostToGuest: true}, nil, &vm.ShareMount{HostPath: at("data"), HostToGuest: true}},
		"a link to it":      {vm.Mount{HostPath: at("link")}, nil, &vm.ShareMount{HostPath: at("link")}},
		"a read-only one":   {vm.Mount{HostPath: at("data"), ReadOnly: true}, nil, &vm.ShareMount{HostPath: at("data"), ReadOnly: true}},
		"and all inside it": {vm.Mount{HostPath: at("data"), ReadOnly: true, RecursiveReadOnly: true}, nil, &vm.ShareMount{HostPath: at("data"), ReadOnly: true, RecursiveReadOnly: true}},
	} {
		t.Run(name, func(t *testing.T) {
			tc.mount.ContainerPath = "/there"
			files, shares, err := judgeMounts([]vm.Mount{tc.mount})
			if err != nil {
				t.Fatal(err)
			}
			var wantFiles []vm.FileTree
			var wantShares []vm.ShareMount
			if tc.file != nil {
				tc.file.GuestPath = "/there"
				wantFiles = append(wantFiles, *tc.file)
			}
			if tc.share != nil {
				tc.share.GuestPath = "/there"
				wantShares = append(wantShares, *tc.share)
			}
			if diff := cmp.Diff(wantFiles, files) + cmp.Diff(wantShares, shares); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestMountsThatCannotBeAreRefusedWithBothPaths(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	socket, err := net.Listen("unix", at("socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := socket.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := errors.Join(syscall.Mkfifo(at("pipe"), 0o600), os.Symlink("nowhere", at("dangling"))); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]struct {
		class error
		says  string
	}{
		at("socket"):   {errdefs.ErrInvalidArgument, "is a socket"},
		at("pipe"):     {errdefs.ErrInvalidArgument, "is a named pipe"},
		"/dev/null":    {errdefs.ErrInvalidArgument, "is a device"},
		at("absent"):   {errdefs.ErrFailedPrecondition, "does not exist"},
		at("dangling"): {errdefs.ErrFailedPrecondition, "does not exist"},
	} {
		_, _, err := judgeMounts([]vm.Mount{{ContainerPath: "/there", HostPath: path}})
		if !errors.Is(err, want.class) {
			t.Errorf("%s: %v, want %v", path, err, want.class)
			continue
		}
		for _, s := range []string{"/there", path, want.says} {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("%q does not say %q", err, s)
			}
		}
	}
}

func TestOuterMountsComeFirst(t *testing.T) {
	dir := t.TempDir()
	_, shares, err := judgeMounts([]vm.Mount{
		{ContainerPath: "/a/b/c", HostPath: dir}, {ContainerPath: "/a", HostPath: dir}, {ContainerPath: "/z/", HostPath: dir},
		{ContainerPath: "/a/b", HostPath: dir},
	})
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, s := range shares {
		order = append(order, s.GuestPath)
	}
	if diff := cmp.Diff([]string{"/a", "/z/", "/a/b", "/a/b/c"}, order); diff != "" {
		t.Error(diff)
	}
}

func TestResolvConfSaysNothingWhereNothingIsKnown(t *testing.T) {
	if got := resolvConf(vm.DNSConfig{}); got != nil {
		t.Errorf("resolv.conf = %q", got)
	}
	if got := string(resolvConf(vm.DNSConfig{Options: []string{"ndots:2"}})); got != "options ndots:2\n" {
		t.Errorf("resolv.conf = %q", got)
	}
}
