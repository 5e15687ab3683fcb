// SPDX-License-Identifier: Apache-2.0

package guesttest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// T is what is needed of a *testing.T.
type T interface {
	Helper()
	Fatal(args ...any)
	Error(args ...any)
	TempDir() string
	Cleanup(f func())
}

// Account is a user of the guest.
type Account struct {
	Name, Home string
	UID, GID   int
}

// User makes a user who has a home, for as long as the test runs: /etc/passwd is another file meanwhile. For root, in what
// Run has made.
func User(t T) Account {
	t.Helper()
	a := Account{Name: "guest-user", UID: 54321, GID: 54322}
	passwd, err := os.ReadFile("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	// Where others than root may go, as t.TempDir is not.
	if a.Home, err = os.MkdirTemp("/tmp", "home"); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "passwd")
	line := fmt.Sprintf("%s:x:%d:%d::%s:/bin/sh\n", a.Name, a.UID, a.GID, a.Home)
	if err := errors.Join(
		os.Chown(a.Home, a.UID, a.GID),
		os.WriteFile(other, append(passwd, line...), 0o644), //nolint:gosec // as it is everywhere
		syscall.Mount(other, "/etc/passwd", "", syscall.MS_BIND, ""),
	); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(syscall.Unmount("/etc/passwd", syscall.MNT_DETACH), os.RemoveAll(a.Home)); err != nil {
			t.Error(err)
		}
	})
	return a
}
