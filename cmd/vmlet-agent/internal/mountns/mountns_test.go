// SPDX-License-Identifier: Apache-2.0

package mountns_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/guesttest"
	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/mountns"
)

func TestMain(m *testing.M) { guesttest.Run(m.Run) }

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mount namespaces are made by root")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// bind makes a folder over another one, in the namespace.
func bind(t *testing.T, s *mountns.Set, name, source, target string) {
	t.Helper()
	must(t, s.Do(name, func() error { return unix.Mount(source, target, "", unix.MS_BIND, "") }))
}

func write(path string) func() error {
	return func() error { return os.WriteFile(path, []byte("x"), 0o600) }
}

func TestMountsOfANamespaceAreSeenInItAndNowhereElse(t *testing.T) {
	needRoot(t)
	s, source, target := mountns.NewSet(), t.TempDir(), t.TempDir()
	must(t, write(filepath.Join(source, "file"))())
	bind(t, s, "a", source, target)
	seen := func() error { _, err := os.Stat(filepath.Join(target, "file")); return err }
	if err := s.Do("a", seen); err != nil {
		t.Errorf("in it: %v", err)
	}
	for _, name := range []string{"", "b"} {
		if err := s.Do(name, seen); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("in %q: %v", name, err)
		}
	}
	if err := seen(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("in the test: %v", err)
	}
}

func TestAReadOnlyRootLeavesTheContainersOwnMountsAlone(t *testing.T) {
	needRoot(t)
	s, root, volume, guests := mountns.NewSet(), t.TempDir(), t.TempDir(), t.TempDir()
	bind(t, s, "a", volume, volume)
	restricted := func(f func() error) error {
		return s.DoRestricted("a", mountns.Restrictions{ReadonlyRoot: true}, f)
	}
	if err := restricted(write(filepath.Join(root, "file"))); !errors.Is(err, unix.EROFS) {
		t.Errorf("below the root: %v", err)
	}
	if err := restricted(write(filepath.Join(volume, "file"))); err != nil {
		t.Errorf("in the container's mount: %v", err)
	}
	if err := restricted(func() error { return os.WriteFile("/proc/self/comm", []byte("x"), 0) }); err != nil {
		t.Errorf("in /proc: %v", err)
	}
	if err := write(filepath.Join(guests, "file"))(); err != nil {
		t.Errorf("outside: %v", err)
	}
}

// A volume over a file system of the guest hides that one: it is not its to be read-only.
func TestAReadOnlyRootFindsTheMountThatHidesTheGuests(t *testing.T) {
	needRoot(t)
	s, volume, place, other := mountns.NewSet(), t.TempDir(), t.TempDir(), t.TempDir()
	for _, dir := range []string{place, other} {
		must(t, unix.Mount(t.TempDir(), dir, "", unix.MS_BIND, ""))
		t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
	}
	bind(t, s, "a", volume, place)
	must(t, s.DoRestricted("a", mountns.Restrictions{ReadonlyRoot: true}, func() error {
		if err := write(filepath.Join(place, "file"))(); err != nil {
			t.Errorf("in the volume: %v", err)
		}
		if err := write(filepath.Join(other, "file"))(); !errors.Is(err, unix.EROFS) {
			t.Errorf("in the guest's: %v", err)
		}
		return nil
	}))
}

func TestMaskedAndReadOnlyPaths(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	secret, folder, fixed := filepath.Join(dir, "secret"), filepath.Join(dir, "folder"), filepath.Join(dir, "fixed")
	must(t, write(secret)())
	for _, d := range []string{folder, fixed} {
		must(t, os.Mkdir(d, 0o700))
		must(t, write(filepath.Join(d, "file"))())
	}
	link := filepath.Join(dir, "link")
	must(t, os.Symlink(fixed, link))
	s := mountns.NewSet()
	r := mountns.Restrictions{
		MaskedPaths:   []string{secret, folder, filepath.Join(dir, "nothing"), filepath.Join(secret, "below")},
		ReadonlyPaths: []string{link, filepath.Join(dir, "nothing")},
	}
	// The second time finds them made: a mask over a mask would be one mount more each time.
	for range 2 {
		err := s.DoRestricted("a", r, func() error {
			if b, err := os.ReadFile(secret); err != nil || len(b) != 0 {
				t.Errorf("masked file: %q, %v", b, err)
			}
			if entries, err := os.ReadDir(folder); err != nil || len(entries) != 0 {
				t.Errorf("masked folder: %v, %v", entries, err)
			}
			if err := write(filepath.Join(fixed, "file"))(); !errors.Is(err, unix.EROFS) {
				t.Errorf("read-only path: %v", err)
			}
			return write(filepath.Join(dir, "other"))()
		})
		must(t, err)
	}
	if err := s.DoRestricted("", r, func() error { return nil }); err == nil {
		t.Error("the guest's own namespace was restricted")
	}
}

func TestNamespacesAreBounded(t *testing.T) {
	needRoot(t)
	s := mountns.NewSet()
	var err error
	n := 0
	for ; err == nil && n < 1000; n++ {
		err = s.Do(strconv.Itoa(n), func() error { return nil })
	}
	if !errors.Is(err, os.ErrInvalid) || n > 100 {
		t.Errorf("%d of them: %v", n, err)
	}
	must(t, s.Do("0", func() error { return nil }))
}

// The thread that was in another namespace is not used for anything else.
func TestTheAgentStaysInTheGuest(t *testing.T) {
	needRoot(t)
	s := mountns.NewSet()
	home, err := os.Readlink("/proc/self/ns/mnt")
	must(t, err)
	for range 50 {
		must(t, s.Do("a", func() error { return nil }))
		err := s.Do("", func() error {
			now, err := os.Readlink("/proc/thread-self/ns/mnt")
			if now != home {
				return fmt.Errorf("in %s, not %s: %w", now, home, err)
			}
			return nil
		})
		must(t, err)
	}
}
