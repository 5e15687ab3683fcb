// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
)

func TestTheSocketIsForItsGroup(t *testing.T) {
	path := filepath.Join(socketDir(t), "deep", "vmlet.sock")
	s, err := listen(t.Context(), path, strconv.Itoa(os.Getgid()))
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != fs.ModeSocket|0o660 {
		t.Errorf("mode is %s, want a socket with 0660", info.Mode())
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Gid) != os.Getgid() {
		t.Errorf("group is %v, want %d", info.Sys(), os.Getgid())
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("closing again: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*sock*")); err != nil || len(left) != 1 || left[0] != path+".lock" {
		t.Errorf("left behind: %v, %v; want the lock alone", left, err)
	}
}

// stale is the socket of a process that was killed.
func stale(t *testing.T, path string) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ul, ok := l.(*net.UnixListener)
	if !ok {
		t.Fatal("no unix listener")
	}
	ul.SetUnlinkOnClose(false)
	if err := ul.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestASocketThatNobodyServesOnIsReplaced(t *testing.T) {
	path := filepath.Join(socketDir(t), "s")
	stale(t, path)
	stale(t, path+aside) // killed between bind and rename
	s, err := listen(t.Context(), path, "")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(conn.Close(), s.Close()); err != nil {
		t.Error(err)
	}
}

func TestWhatIsAnothersIsLeftAlone(t *testing.T) {
	for name, occupy := range map[string]func(t *testing.T, path string){
		"a socket that somebody serves on": func(t *testing.T, path string) {
			t.Helper()
			l, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := l.Close(); err != nil {
					t.Error(err)
				}
			})
		},
		"a file": func(t *testing.T, path string) {
			t.Helper()
			if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"a link to a socket": func(t *testing.T, path string) {
			t.Helper()
			stale(t, path+".far")
			if err := os.Symlink(path+".far", path); err != nil {
				t.Fatal(err)
			}
		},
		"another vmlet, which is about to serve": func(t *testing.T, path string) {
			t.Helper()
			lock, err := lockFile(path + ".lock")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := lock.Close(); err != nil {
					t.Error(err)
				}
			})
			stale(t, path)
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(socketDir(t), "s")
			occupy(t, path)
			before, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := listen(t.Context(), path, ""); !errors.Is(err, errdefs.ErrFailedPrecondition) {
				t.Errorf("got %v, want failed precondition", err)
			}
			if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) {
				t.Errorf("it was touched: %v", err)
			}
		})
	}
}

func TestOfDaemonsThatStartAtOnceOneServes(t *testing.T) {
	path := filepath.Join(socketDir(t), "s")
	stale(t, path)
	var starts sync.WaitGroup
	won := make(chan *socket, 8)
	for range cap(won) {
		starts.Go(func() {
			if s, err := listen(t.Context(), path, ""); err == nil {
				won <- s
			} else if !errors.Is(err, errdefs.ErrFailedPrecondition) {
				t.Errorf("got %v, want failed precondition", err)
			}
		})
	}
	starts.Wait()
	close(won)
	if len(won) != 1 {
		t.Fatalf("%d serve, want 1", len(won))
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(conn.Close(), (<-won).Close()); err != nil {
		t.Error(err)
	}
}

func TestClosingDoesNotRemoveAnothersSocket(t *testing.T) {
	path := filepath.Join(socketDir(t), "s")
	s, err := listen(t.Context(), path, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	stale(t, path)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Error(err)
	}
}

func TestSocketsThatCannotBe(t *testing.T) {
	dir := socketDir(t)
	for name, tt := range map[string]struct{ path, group string }{
		"relative path": {"vmlet.sock", ""},
		"long path":     {filepath.Join(dir, strings.Repeat("a", 107)), ""},
		"unknown group": {filepath.Join(dir, "s"), "no-such-group-here"},
	} {
		if _, err := listen(t.Context(), tt.path, tt.group); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%s: %v, want invalid argument", name, err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestAGroupMayBeNamed(t *testing.T) {
	for group, want := range map[string]int{"": -1, "0": 0, "root": 0, "4242": 4242} {
		if got, err := groupID(group); err != nil || got != want {
			t.Errorf("group %q is %d, %v; want %d", group, got, err, want)
		}
	}
}
