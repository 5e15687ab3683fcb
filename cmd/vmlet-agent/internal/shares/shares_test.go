// SPDX-License-Identifier: Apache-2.0

package shares

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/guesttest"
	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/mountns"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

func TestMain(m *testing.M) { guesttest.Run(m.Run) }

// guest has a share that is a tmpfs: a folder 0-data with a file f, and a file 1-file.
type guest struct {
	*Shares
	t          *testing.T
	namespaces *mountns.Set
	dir        string
	mounted    int
}

func newGuest(t *testing.T) *guest {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root mounts")
	}
	g := &guest{t: t, namespaces: mountns.NewSet(), dir: t.TempDir()}
	g.Shares = New(g.namespaces, filepath.Join(t.TempDir(), "share"))
	g.mountTag = func(tag, at string) error {
		if tag != "vmlet" {
			return unix.EINVAL
		}
		g.mounted++
		return errors.Join(
			unix.Mount(tag, at, "tmpfs", 0, ""),
			os.Mkdir(at+"/0-data", 0o755), os.WriteFile(at+"/0-data/f", []byte("data"), 0o644),
			os.WriteFile(at+"/1-file", []byte("file"), 0o644),
		)
	}
	t.Cleanup(func() { g.must(g.Unmount(&agentv1.UnmountSharesRequest{Tag: "vmlet"})) })
	return g
}

func (g *guest) must(err error) {
	g.t.Helper()
	if err != nil {
		g.t.Fatal(err)
	}
}

func (g *guest) mount(namespace string, mounts ...*agentv1.ShareMount) error {
	return g.Mount(g.t.Context(), &agentv1.MountSharesRequest{Tag: "vmlet", Namespace: namespace, Mounts: mounts})
}

// in runs f in a namespace.
func (g *guest) in(namespace string, f func() error) {
	g.t.Helper()
	g.must(g.namespaces.Do(namespace, f))
}

func (g *guest) reads(namespace, path, want string) {
	g.t.Helper()
	g.in(namespace, func() error {
		if got, err := os.ReadFile(path); string(got) != want {
			g.t.Errorf("%s is %q, %v; want %q", path, got, err, want)
		}
		return nil
	})
}

func TestSharesAreBoundInTheirNamespaceAlone(t *testing.T) {
	for _, namespace := range []string{"", "container"} {
		g := newGuest(t)
		data, file := g.dir+"/some/where/data", g.dir+"/etc/file"
		for range 2 { // idempotent
			g.must(g.mount(namespace, &agentv1.ShareMount{Source: "0-data", Path: data}, &agentv1.ShareMount{Source: "1-file", Path: file, Readonly: true}))
		}
		g.reads(namespace, data+"/f", "data")
		g.reads(namespace, file, "file")
		g.in(namespace, func() error {
			g.must(os.WriteFile(data+"/new", nil, 0o600))
			if err := os.WriteFile(file, nil, 0o600); !errors.Is(err, unix.EROFS) {
				t.Errorf("write a read-only file: %v", err)
			}
			mounts, err := os.ReadFile("/proc/thread-self/mountinfo")
			g.must(err)
			if n := strings.Count(string(mounts), g.dir+"/"); n != 2 {
				t.Errorf("%d mounts, want 2:\n%s", n, mounts)
			}
			if strings.Contains(string(mounts), g.root) {
				t.Error("the share as a whole is in sight")
			}
			return nil
		})
		if namespace != "" {
			if _, err := os.Stat(data + "/f"); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a container's mount is in the guest's: %v", err)
			}
		}
		g.must(g.Unmount(&agentv1.UnmountSharesRequest{Tag: "vmlet"}))
		g.must(g.Unmount(&agentv1.UnmountSharesRequest{Tag: "vmlet"}))
		for _, name := range []string{namespace, holder} {
			g.in(name, func() error {
				mounts, err := os.ReadFile("/proc/thread-self/mountinfo")
				g.must(err)
				if strings.Contains(string(mounts), g.dir+"/") || strings.Contains(string(mounts), g.root) {
					t.Errorf("mounts are left in %q:\n%s", name, mounts)
				}
				return nil
			})
		}
	}
}

func TestLinksOfTheGuestAreFollowed(t *testing.T) {
	g := newGuest(t)
	g.must(os.Mkdir(g.dir+"/real", 0o755))
	g.must(os.Symlink("real", g.dir+"/link"))
	for range 2 {
		g.must(g.mount("", &agentv1.ShareMount{Source: "0-data", Path: g.dir + "/link"}))
	}
	g.reads("", g.dir+"/real/f", "data")
}

func TestMountsThatCannotBe(t *testing.T) {
	g := newGuest(t)
	g.must(os.WriteFile(g.dir+"/file", nil, 0o600))
	g.must(os.Mkdir(g.dir+"/folder", 0o700))
	for name, tc := range map[string]struct {
		mount *agentv1.ShareMount
		is    func(error) bool
	}{
		"a folder on a file":   {&agentv1.ShareMount{Source: "0-data", Path: g.dir + "/file"}, errdefs.IsFailedPrecondition},
		"a file on a folder":   {&agentv1.ShareMount{Source: "1-file", Path: g.dir + "/folder"}, errdefs.IsFailedPrecondition},
		"what is not there":    {&agentv1.ShareMount{Source: "2-none", Path: g.dir + "/x"}, errdefs.IsNotFound},
		"outside of the share": {&agentv1.ShareMount{Source: "../x", Path: g.dir + "/x"}, errdefs.IsInvalidArgument},
		"a relative place":     {&agentv1.ShareMount{Source: "0-data", Path: "x"}, errdefs.IsInvalidArgument},
	} {
		if err := g.mount("", tc.mount); !tc.is(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestShareInUseIsNotUnmountedAndNamesWhoHoldsIt(t *testing.T) {
	g := newGuest(t)
	at := g.dir + "/data"
	g.must(g.mount("container", &agentv1.ShareMount{Source: "0-data", Path: at}))
	cat := exec.Command("cat")
	stdin, err := cat.StdinPipe()
	g.must(err)
	g.in("container", func() error {
		f, err := os.Open(at + "/f")
		g.must(err)
		defer f.Close() //nolint:errcheck // it was only read
		cat.ExtraFiles = []*os.File{f}
		return cat.Start()
	})
	err = g.Unmount(&agentv1.UnmountSharesRequest{Tag: "vmlet"})
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "cat") || !strings.Contains(err.Error(), at+"/f") {
		t.Errorf("got %v", err)
	}
	g.reads("container", at+"/f", "data")
	g.must(stdin.Close())
	g.must(cat.Wait())
	g.must(g.Unmount(&agentv1.UnmountSharesRequest{Tag: "vmlet"}))
}

// A copy of the mount that nobody has anything open in is no open file, and is dead all the same once the device is unplugged.
func TestShareInAnotherNamespaceIsInUse(t *testing.T) {
	g := newGuest(t)
	at := g.dir + "/data"
	data := &agentv1.ShareMount{Source: "0-data", Path: at}
	g.must(g.mount("container", data))
	cat := exec.Command("cat")
	cat.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	stdin, err := cat.StdinPipe()
	g.must(err)
	g.in("container", cat.Start)
	err = g.Unmount(&agentv1.UnmountSharesRequest{Tag: "vmlet"})
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "(cat)") || !strings.Contains(err.Error(), at+",") {
		t.Errorf("got %v", err)
	}
	g.must(g.mount("container", data)) // as the host does then
	g.reads("container", at+"/f", "data")
	g.must(stdin.Close())
	g.must(cat.Wait())
	g.must(g.Unmount(&agentv1.UnmountSharesRequest{Tag: "vmlet"}))
}

// An agent that was started again knows no more what it mounted.
func TestAnotherAgentLeavesMountsOfTheGuestAndUnmountsThem(t *testing.T) {
	g := newGuest(t)
	at := g.dir + "/data"
	g.must(g.mount("", &agentv1.ShareMount{Source: "0-data", Path: at}))
	g.bound = nil
	g.must(g.mount("", &agentv1.ShareMount{Source: "0-data", Path: at}))
	g.must(g.Unmount(&agentv1.UnmountSharesRequest{Tag: "vmlet"}))
	if _, err := os.Stat(at + "/f"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
	if g.mounted != 1 {
		t.Errorf("the share was mounted %d times", g.mounted)
	}
}

func TestUnknownTagIsUnavailable(t *testing.T) {
	g := newGuest(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*plugPoll)
	defer cancel()
	if err := g.Mount(ctx, &agentv1.MountSharesRequest{Tag: "other"}); !errdefs.IsUnavailable(err) {
		t.Errorf("got %v", err)
	}
}

func TestUnpluggedShareIsMountedAnew(t *testing.T) {
	g := newGuest(t)
	at := g.dir + "/data"
	data := &agentv1.ShareMount{Source: "0-data", Path: at}
	g.must(g.mount("container", data))
	g.answers = func(string) error {
		g.answers = answers
		return unix.ENOTCONN
	}
	g.must(g.mount("container", data))
	if g.mounted != 2 {
		t.Errorf("the share was mounted %d times, want twice", g.mounted)
	}
	g.reads("container", at+"/f", "data")
	g.in("container", func() error {
		mounts, err := os.ReadFile("/proc/thread-self/mountinfo")
		g.must(err)
		if n := strings.Count(string(mounts), " "+at+" "); n != 1 {
			t.Errorf("%d mounts, want one:\n%s", n, mounts)
		}
		return nil
	})
}
