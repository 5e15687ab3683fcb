// SPDX-License-Identifier: Apache-2.0

//go:build integration

package share_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/pkg/lifecycle/lifecycletest"
	"github.com/vmlet/vmlet/pkg/paths"
	"github.com/vmlet/vmlet/pkg/share"
	"github.com/vmlet/vmlet/pkg/vm"
)

// The tests run in a mount namespace of their own: the test binary starts itself in one.
const inNamespace = "VMLET_TEST_SHARE_NAMESPACE"

func TestMain(m *testing.M) {
	if os.Getenv(inNamespace) != "" {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			fmt.Fprintln(os.Stderr, "make mounts private:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	self := exec.Command("/proc/self/exe", os.Args[1:]...)
	self.Stdout, self.Stderr = os.Stdout, os.Stderr
	self.Env = append(os.Environ(), inNamespace+"=1")
	self.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if err := self.Run(); err != nil {
		os.Exit(1)
	}
}

const id = "0123456789abcdef0123456789abcdef"

// host is a node with shares and a folder for what they share.
type host struct {
	t *testing.T
	*share.Shares
	node paths.Node
	dir  string
}

func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{t: t, node: paths.Node{State: filepath.Join(t.TempDir(), "state")}, dir: t.TempDir()}
	h.Shares = share.New(h.node)
	t.Cleanup(h.nothingIsLeft)
	return h
}

// nothingIsLeft removes all shares and looks for mounts that stayed.
func (h *host) nothingIsLeft() {
	ctx := context.WithoutCancel(h.t.Context())
	ids, err := h.List(ctx)
	h.must(err)
	for _, id := range ids {
		h.must(h.Remove(ctx, id))
	}
	if err := unix.Unmount(h.node.Shares(), 0); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		h.t.Error("unmount the folder of shares, which must be empty:", err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	h.must(err)
	if bytes.Contains(mounts, []byte(h.node.State)) {
		h.t.Errorf("mounts are left:\n%s", mounts)
	}
}

func (h *host) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) folder(name string) string {
	path := filepath.Join(h.dir, name)
	h.must(os.MkdirAll(path, 0o755))
	return path
}

func (h *host) file(name, content string) string {
	path := filepath.Join(h.dir, name)
	h.must(os.WriteFile(path, []byte(content), 0o644))
	return path
}

// create makes the share and returns the host paths of its mounts in the tree.
func (h *host) create(mounts ...vm.ShareMount) []string {
	h.t.Helper()
	placed, err := h.Create(h.t.Context(), id, mounts)
	h.must(err)
	var at []string
	for _, m := range placed {
		at = append(at, filepath.Join(h.node.Share(id), m.Source))
	}
	return at
}

func (h *host) mount(source, target, fstype string, flags uintptr) {
	h.t.Helper()
	h.must(unix.Mount(source, target, fstype, flags, ""))
	h.t.Cleanup(func() { _ = unix.Unmount(target, unix.MNT_DETACH) }) //nolint:errcheck // it may be gone
}

func read(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func TestShares(t *testing.T) {
	lifecycletest.RunShares(t, func(t *testing.T) lifecycletest.SharesEnv {
		h := newHost(t)
		return lifecycletest.SharesEnv{
			Shares: h, Folder: h.folder, File: func(name string) string { return h.file(name, name) },
			Missing: filepath.Join(h.dir, "missing"),
		}
	})
}

func TestFoldersAndFilesAreSeenInTheTree(t *testing.T) {
	h := newHost(t)
	h.file("one", "1")
	h.folder("data")
	h.file("data/two", "2")
	at := h.create(vm.ShareMount{HostPath: h.dir + "/one", GuestPath: "/one"}, vm.ShareMount{HostPath: h.dir + "/data", GuestPath: "/data"})
	if one, two := read(at[0]), read(at[1]+"/two"); one != "1" || two != "2" {
		t.Errorf("read %q and %q", one, two)
	}
	h.must(os.WriteFile(at[1]+"/three", []byte("3"), 0o644))
	if got := read(h.dir + "/data/three"); got != "3" {
		t.Errorf("what was written in the tree is %q on the host", got)
	}
}

func TestNothingCanBeMadeBesideTheMounts(t *testing.T) {
	h := newHost(t)
	h.create(vm.ShareMount{HostPath: h.folder("data"), GuestPath: "/data"})
	if err := os.Mkdir(filepath.Join(h.node.Share(id), "own"), 0o755); !errors.Is(err, unix.EROFS) {
		t.Errorf("got %v, want a read-only file system", err)
	}
}

func TestReadOnlyHoldsForMountsBelowWhereItIsRecursive(t *testing.T) {
	h := newHost(t)
	h.folder("data/below")
	h.mount("none", h.dir+"/data/below", "tmpfs", 0)
	h.file("data/below/f", "before")
	file := h.file("single", "before")
	at := h.create(
		vm.ShareMount{HostPath: h.dir + "/data", GuestPath: "/data", ReadOnly: true, RecursiveReadOnly: true},
		vm.ShareMount{HostPath: file, GuestPath: "/single", ReadOnly: true},
		vm.ShareMount{HostPath: h.dir + "/data", GuestPath: "/plain", ReadOnly: true},
	)
	for _, path := range []string{at[0] + "/new", at[0] + "/below/new", at[0] + "/below/f", at[1], at[2] + "/new"} {
		if err := os.WriteFile(path, []byte("after"), 0o644); !errors.Is(err, unix.EROFS) {
			t.Errorf("write %s: %v, want a read-only file system", path, err)
		}
	}
	h.must(os.WriteFile(at[2]+"/below/f", []byte("guest"), 0o644))
	if got := read(at[0] + "/below/f"); got != "guest" {
		t.Errorf("read %q", got)
	}
	h.must(os.WriteFile(h.dir+"/data/below/f", []byte("host"), 0o644))
	if got := read(at[0] + "/below/f"); got != "host" {
		t.Errorf("read %q", got)
	}
}

func TestLinksAreResolvedOnce(t *testing.T) {
	h := newHost(t)
	h.folder("good")
	h.folder("evil")
	h.file("good/f", "good")
	h.file("evil/f", "evil")
	link := filepath.Join(h.dir, "link")
	h.must(os.Symlink("good", link))
	at := h.create(vm.ShareMount{HostPath: link, GuestPath: "/data"}, vm.ShareMount{HostPath: link + "/f", GuestPath: "/f"})
	h.must(os.Remove(link))
	h.must(os.Symlink("evil", link))
	if dir, file := read(at[0]+"/f"), read(at[1]); dir != "good" || file != "good" {
		t.Errorf("after the link has changed the share shows %q and %q", dir, file)
	}
}

// Whatever a link is turned to while it is resolved, the share has one of the two folders,
// and is read-only.
func TestLinkThatChangesAllTheTimeLeadsToOneOfItsTargets(t *testing.T) {
	h := newHost(t)
	for _, name := range []string{"a", "b"} {
		h.folder(name)
		h.file(name+"/f", name)
	}
	link := filepath.Join(h.dir, "link")
	h.must(os.Symlink("a", link))
	stop, stopped := make(chan struct{}), make(chan error)
	go func() {
		for target := "b"; ; target = map[string]string{"a": "b", "b": "a"}[target] {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			if err := errors.Join(os.Symlink(target, link+".new"), os.Rename(link+".new", link)); err != nil {
				stopped <- err
				return
			}
		}
	}()
	for range 50 {
		at := h.create(vm.ShareMount{HostPath: link, GuestPath: "/data", ReadOnly: true})
		got := read(at[0] + "/f")
		if got != "a" && got != "b" {
			t.Fatalf("the share shows %q", got)
		}
		if err := os.WriteFile(at[0]+"/f", nil, 0o644); !errors.Is(err, unix.EROFS) {
			t.Fatalf("write: %v", err)
		}
		h.must(h.Remove(t.Context(), id))
	}
	close(stop)
	h.must(<-stopped)
}

func TestWhatIsNoFolderAndNoFileIsRefusedByName(t *testing.T) {
	h := newHost(t)
	for name, mode := range map[string]uint32{
		"a character device": unix.S_IFCHR, "a block device": unix.S_IFBLK, "a socket": unix.S_IFSOCK, "a named pipe": unix.S_IFIFO,
	} {
		path := filepath.Join(h.dir, strings.ReplaceAll(name, " ", "-"))
		h.must(unix.Mknod(path, mode|0o666, int(unix.Mkdev(1, 3))))
		_, err := h.Create(t.Context(), id, []vm.ShareMount{{HostPath: path, GuestPath: "/x"}})
		if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := h.Create(t.Context(), id, []vm.ShareMount{{HostPath: "/proc/self/root", GuestPath: "/x"}}); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("a link of /proc: %v", err)
	}
}

func TestPropagation(t *testing.T) {
	h := newHost(t)
	h.folder("data/early")
	h.folder("data/late")
	h.mount(h.dir+"/data", h.dir+"/data", "", unix.MS_BIND)
	h.must(unix.Mount("", h.dir+"/data", "", unix.MS_SHARED, ""))
	h.mount("none", h.dir+"/data/early", "tmpfs", 0)
	h.file("data/early/f", "early")
	at := h.create(
		vm.ShareMount{HostPath: h.dir + "/data", GuestPath: "/private"},
		vm.ShareMount{HostPath: h.dir + "/data", GuestPath: "/slave", HostToGuest: true},
	)
	h.mount("none", h.dir+"/data/late", "tmpfs", 0)
	h.file("data/late/f", "late")
	for _, path := range at {
		if got := read(path + "/early/f"); got != "early" {
			t.Errorf("what was mounted before is %q", got)
		}
	}
	if _, err := os.Stat(at[0] + "/late/f"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a later mount of the host is in a private one: %v", err)
	}
	if got := read(at[1] + "/late/f"); got != "late" {
		t.Errorf("a later mount of the host is not in the other: %q", got)
	}
	h.must(unix.Mount("none", at[1]+"/early", "tmpfs", 0, ""))
	if got := read(h.dir + "/data/early/f"); got != "early" {
		t.Errorf("a mount in the share came back to the host: %q", got)
	}
	h.must(h.Remove(t.Context(), id))
	if got := read(h.dir + "/data/late/f"); got != "late" {
		t.Errorf("removing the share unmounted the host's own: %q", got)
	}
}

// A process in a mount namespace of its own, as libvirtd and virtiofsd are, sees the tree,
// read-only where it is, and keeps none of its mounts.
func TestOtherMountNamespacesSeeTheTreeAndLoseIt(t *testing.T) {
	h := newHost(t)
	h.create()
	h.must(h.Remove(t.Context(), id))
	sh := exec.Command("unshare", "--mount", "--propagation", "unchanged", "sh", "-c",
		"mount --make-rslave / && echo ready && echo END && while read command; do eval \"$command\" 2>&1; echo END; done")
	in, err := sh.StdinPipe()
	h.must(err)
	out, err := sh.StdoutPipe()
	h.must(err)
	h.must(sh.Start())
	defer func() {
		if err := errors.Join(in.Close(), sh.Wait()); err != nil {
			t.Error(err)
		}
	}()
	lines := bufio.NewScanner(out)
	answer := func() (text string) {
		for lines.Scan() && lines.Text() != "END" {
			text += lines.Text()
		}
		return text
	}
	if got := answer(); got != "ready" {
		t.Fatal(got)
	}
	ask := func(command string) string {
		_, err := fmt.Fprintln(in, command)
		h.must(err)
		return answer()
	}
	h.file("f", "seen")
	at := h.create(vm.ShareMount{HostPath: h.dir + "/f", GuestPath: "/f", ReadOnly: true})
	if got := ask("cat " + at[0] + "; echo"); got != "seen" {
		t.Errorf("it reads %q", got)
	}
	for _, path := range []string{at[0], h.node.Share(id) + "/own"} {
		if got := ask("(echo x >" + path + ")"); !strings.Contains(got, "ead-only") {
			t.Errorf("writing %s says %q", path, got)
		}
	}
	h.must(h.Remove(t.Context(), id))
	if got := ask("grep -c " + id + " /proc/self/mountinfo"); got != "0" {
		t.Errorf("%s mounts stay in the other namespace", got)
	}
}

// What a crash leaves at any step of a creation is made whole by the next, or removed.
func TestHalfMadeTrees(t *testing.T) {
	for name, leave := range map[string]func(h *host, dir string){
		"only the folder": func(h *host, dir string) { h.must(os.Mkdir(dir, 0o700)) },
		"an unsealed tmpfs": func(h *host, dir string) {
			h.must(os.Mkdir(dir, 0o700))
			h.must(unix.Mount("none", dir, "tmpfs", 0, ""))
			h.must(os.WriteFile(dir+"/0-123", nil, 0o600))
		},
		"an unsealed tmpfs with a mount": func(h *host, dir string) {
			h.must(os.Mkdir(dir, 0o700))
			h.must(unix.Mount("none", dir, "tmpfs", 0, ""))
			h.must(os.Mkdir(dir+"/0-123", 0o700))
			h.must(unix.Mount(h.folder("data"), dir+"/0-123", "", unix.MS_BIND, ""))
		},
	} {
		for then, finish := range map[string]func(h *host){
			"created": func(h *host) {
				at := h.create(vm.ShareMount{HostPath: h.folder("data"), GuestPath: "/data"})
				if got := read(at[0] + "/precious"); got != "content" {
					h.t.Errorf("read %q", got)
				}
			},
			"removed": func(h *host) { h.must(h.Remove(h.t.Context(), id)) },
		} {
			t.Run(name+" is "+then, func(t *testing.T) {
				h := newHost(t)
				h.create()
				h.must(h.Remove(t.Context(), id))
				h.folder("data")
				h.file("data/precious", "content")
				leave(h, h.node.Share(id))
				finish(h)
				h.must(h.Remove(t.Context(), id))
				if got := read(h.dir + "/data/precious"); got != "content" {
					t.Errorf("the host's file is %q", got)
				}
			})
		}
	}
}

// A folder with files where a tree should be is somebody's: a tree that was unmounted by
// hand, and filled, or a state folder that is not on a tmpfs.
func TestContentIsNeverDeleted(t *testing.T) {
	h := newHost(t)
	h.create()
	h.must(h.Remove(t.Context(), id))
	h.must(os.MkdirAll(h.node.Share(id)+"/0-data", 0o700))
	precious := h.node.Share(id) + "/0-data/precious"
	h.must(os.WriteFile(precious, []byte("content"), 0o600))
	if err := h.Remove(t.Context(), id); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("remove: %v, want FailedPrecondition", err)
	}
	if _, err := h.Create(t.Context(), id, nil); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("create: %v, want FailedPrecondition", err)
	}
	if got := read(precious); got != "content" {
		t.Errorf("the file is %q", got)
	}
	h.must(os.RemoveAll(h.node.Share(id)))
}

func TestBusyTreeIsRemoved(t *testing.T) {
	h := newHost(t)
	h.folder("data")
	h.file("data/f", "kept")
	at := h.create(vm.ShareMount{HostPath: h.dir + "/data", GuestPath: "/data"})
	open, err := os.Open(at[0] + "/f")
	h.must(err)
	defer open.Close() //nolint:errcheck // it was only read
	h.must(h.Remove(t.Context(), id))
	if got := read(h.dir + "/data/f"); got != "kept" {
		t.Errorf("the host's file is %q", got)
	}
}

func BenchmarkCreateAndRemove(b *testing.B) {
	node := paths.Node{State: b.TempDir()}
	s, data := share.New(node), b.TempDir()
	mounts := make([]vm.ShareMount, 4)
	for i := range mounts {
		mounts[i] = vm.ShareMount{HostPath: data, GuestPath: fmt.Sprint("/data", i), ReadOnly: true}
	}
	for b.Loop() {
		if _, err := s.Create(b.Context(), id, mounts); err != nil {
			b.Fatal(err)
		}
		if err := s.Remove(b.Context(), id); err != nil {
			b.Fatal(err)
		}
	}
	if err := unix.Unmount(node.Shares(), 0); err != nil {
		b.Fatal(err)
	}
}
