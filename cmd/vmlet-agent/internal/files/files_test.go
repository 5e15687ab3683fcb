// SPDX-License-Identifier: Apache-2.0

package files

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/guesttest"
	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/mountns"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

func TestMain(m *testing.M) { guesttest.Run(m.Run) }

const container = "container"

type guest struct {
	*Files
	t          *testing.T
	namespaces *mountns.Set
	dir        string
}

func newGuest(t *testing.T) *guest {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root mounts")
	}
	g := &guest{t: t, namespaces: mountns.NewSet(), dir: t.TempDir()}
	g.Files = New(g.namespaces, filepath.Join(t.TempDir(), "files"))
	return g
}

func (g *guest) must(err error) {
	g.t.Helper()
	if err != nil {
		g.t.Fatal(err)
	}
}

// in runs f in the container's namespace.
func (g *guest) in(f func()) {
	g.t.Helper()
	g.must(g.namespaces.Do(container, func() error { f(); return nil }))
}

// entry describes a file ("path=content"), a link ("path>target") or a folder ("path/"),
// with permissions that tell them apart.
func entry(text string) (e *agentv1.FileEntry, content string) {
	if path, target, ok := strings.Cut(text, ">"); ok {
		return &agentv1.FileEntry{Path: path, Mode: unix.S_IFLNK | 0o777, Link: target}, ""
	}
	if path, content, ok := strings.Cut(text, "="); ok {
		return &agentv1.FileEntry{Path: path, Mode: unix.S_IFREG | 0o640, Uid: 7, Gid: 8, Size: uint64(len(content))}, content
	}
	return &agentv1.FileEntry{Path: strings.TrimSuffix(text, "/"), Mode: unix.S_IFDIR | 0o755}, ""
}

func (g *guest) sync(path string, readonly bool, texts ...string) error {
	req := &agentv1.SyncFilesRequest{Path: path, Readonly: readonly, Namespace: container}
	var chunks []*agentv1.FileChunk
	for _, text := range texts {
		e, content := entry(text)
		req.Entries = append(req.Entries, e)
		for content != "" {
			n := min(3, len(content))
			chunks = append(chunks, &agentv1.FileChunk{Data: []byte(content[:n]), Last: n == len(content)})
			content = content[n:]
		}
	}
	req.Directory = len(texts) > 0 && texts[0] == "/"
	return g.Sync(req, func() (*agentv1.FileChunk, error) {
		if len(chunks) == 0 {
			return nil, io.EOF
		}
		c := chunks[0]
		chunks = chunks[1:]
		return c, nil
	})
}

func (g *guest) read(path string) (content string) {
	g.in(func() {
		text, err := os.ReadFile(path)
		content = string(text)
		if err != nil {
			content = err.Error()
		}
	})
	return content
}

func (g *guest) inode(path string) (inode uint64) {
	g.in(func() {
		var st unix.Stat_t
		g.must(unix.Stat(path, &st))
		inode = st.Ino
	})
	return inode
}

func TestSingleFileKeepsItsInodeWhenItsContentChanges(t *testing.T) {
	g := newGuest(t)
	hosts := g.dir + "/etc/hosts"
	g.must(os.MkdirAll(filepath.Dir(hosts), 0o755))
	g.must(os.WriteFile(hosts, []byte("the guest's own"), 0o644))
	g.must(g.sync(hosts, false, "=a first content"))
	first := g.inode(hosts)
	var open *os.File
	g.in(func() {
		var err error
		open, err = os.Open(hosts)
		g.must(err)
		info, err := open.Stat()
		g.must(err)
		if st, ok := info.Sys().(*syscall.Stat_t); !ok || st.Uid != 7 || st.Gid != 8 || info.Mode() != 0o640 {
			t.Errorf("it is %v of %d:%d", info.Mode(), st.Uid, st.Gid)
		}
	})
	defer open.Close() //nolint:errcheck // it was only read
	g.must(g.sync(hosts, false, "=second"))
	if got := g.read(hosts); got != "second" {
		t.Errorf("read %q", got)
	}
	if g.inode(hosts) != first {
		t.Error("it is another file")
	}
	if text, err := io.ReadAll(open); string(text) != "second" {
		t.Errorf("a descriptor from before reads %q, %v", text, err)
	}
	if own, err := os.ReadFile(hosts); string(own) != "the guest's own" {
		t.Errorf("outside of the container it is %q, %v", own, err)
	}
}

func TestReadOnlyIsEnforced(t *testing.T) {
	g := newGuest(t)
	file, folder := g.dir+"/file", g.dir+"/folder"
	g.must(g.sync(file, true, "=x"))
	g.must(g.sync(folder, true, "/", "key=x"))
	g.in(func() {
		for _, path := range []string{file, folder + "/key", folder + "/new"} {
			if err := os.WriteFile(path, nil, 0o600); !errors.Is(err, unix.EROFS) {
				t.Errorf("write %s: %v", path, err)
			}
		}
	})
	g.must(g.sync(file, true, "=y"))
	g.must(g.sync(folder, true, "/", "key=y"))
	if a, b := g.read(file), g.read(folder+"/key"); a != "y" || b != "y" {
		t.Errorf("after an update %q and %q", a, b)
	}
}

// A reader that goes through "..data" sees one version or the other, never both.
func TestAtomicWritersFolderChangesAtOnce(t *testing.T) {
	g := newGuest(t)
	path := g.dir + "/config"
	version := func(n string) []string {
		return []string{"/", "..v" + n + "/", "..v" + n + "/a=" + n, "..v" + n + "/b=" + n, "..data>..v" + n, "a>..data/a", "b>..data/b"}
	}
	g.must(g.sync(path, true, version("1")...))
	stop, stopped := make(chan struct{}), make(chan string, 1)
	go func() {
		mixed := ""
		g.in(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				dir, err := os.OpenRoot(path + "/..data/")
				if err != nil {
					continue
				}
				a, errA := dir.ReadFile("a")
				b, errB := dir.ReadFile("b")
				if errA == nil && errB == nil && !bytes.Equal(a, b) {
					mixed = string(a) + " beside " + string(b)
				}
				g.must(dir.Close())
			}
		})
		stopped <- mixed
	}()
	for i := range 50 {
		g.must(g.sync(path, true, version(string(rune('A'+i%26)))...))
	}
	close(stop)
	if mixed := <-stopped; mixed != "" {
		t.Errorf("a reader saw %s", mixed)
	}
	g.in(func() {
		entries, err := os.ReadDir(path)
		g.must(err)
		if len(entries) != 4 {
			t.Errorf("left are %v", entries)
		}
	})
}

func TestFolderBecomesWhatItIsSaidToBe(t *testing.T) {
	g := newGuest(t)
	path := g.dir + "/folder"
	g.must(g.sync(path, true, "/", "file=1", "other/", "other/deep=2", "link>file"))
	g.must(g.sync(path, true, "/", "file/", "file/in=3", "other=4", "link>other"))
	if a, b, c := g.read(path+"/file/in"), g.read(path+"/other"), g.read(path+"/link"); a != "3" || b != "4" || c != "4" {
		t.Errorf("read %q, %q, %q", a, b, c)
	}
	g.must(g.sync(path, true, "/"))
	g.in(func() {
		if entries, err := os.ReadDir(path); err != nil || len(entries) != 0 {
			t.Errorf("left are %v, %v", entries, err)
		}
	})
}

func TestContentThatEndsEarlyLeavesTheOldVersion(t *testing.T) {
	g := newGuest(t)
	path := g.dir + "/config"
	g.must(g.sync(path, true, "/", "..v1/", "..v1/a=old", "..data>..v1", "a>..data/a"))
	req := &agentv1.SyncFilesRequest{Path: path, Readonly: true, Directory: true, Namespace: container}
	for _, text := range []string{"/", "..v2/", "..v2/a=new", "..data>..v2", "a>..data/a"} {
		e, _ := entry(text)
		req.Entries = append(req.Entries, e)
	}
	if err := g.Sync(req, func() (*agentv1.FileChunk, error) { return nil, io.ErrUnexpectedEOF }); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
	if got := g.read(path + "/a"); got != "old" {
		t.Errorf("read %q", got)
	}
}

func TestTreesThatAreNoneAreRefused(t *testing.T) {
	g := newGuest(t)
	path := g.dir + "/x"
	many := []string{"/"}
	for range maxEntries {
		many = append(many, strings.Repeat("x", len(many)%200+1))
	}
	for name, texts := range map[string][]string{
		"nothing":             {},
		"no root":             {"file=x"},
		"outside":             {"/", "../x=1"},
		"absolute":            {"/", "/etc/x=1"},
		"not clean":           {"/", "a/", "a/../b=1"},
		"before its folder":   {"/", "a/b=1", "a/"},
		"in a file":           {"/", "a=1", "a/b=1"},
		"twice":               {"/", "a=1", "a=2"},
		"too many":            many,
		"too large a file":    {"=" + strings.Repeat("x", maxFile+1)},
		"too large a tree":    {"/", "a=" + strings.Repeat("x", maxFile), "b=" + strings.Repeat("x", maxFile), "c=" + strings.Repeat("x", maxFile), "d=" + strings.Repeat("x", maxFile), "e=x"},
		"a link to nowhere":   {"/", "a>"},
		"two files as single": {"=1", "b=2"},
	} {
		if err := g.sync(path, false, texts...); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a mount point was made: %v", err)
	}
	g.must(g.sync(path, false, "=x"))
	if err := g.sync(path, false, "/"); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("a folder in a file's place: %v", err)
	}
}

// What a process of the guest makes in a tree that is writable leads the agent nowhere else.
func TestLinksInAWritableTreeAreNotFollowed(t *testing.T) {
	g := newGuest(t)
	outside := t.TempDir()
	g.must(os.WriteFile(outside+"/key", []byte("precious"), 0o600))
	path := g.dir + "/folder"
	g.must(g.sync(path, false, "/", "dir/", "dir/key=1"))
	g.in(func() {
		g.must(os.RemoveAll(path + "/dir"))
		g.must(os.Symlink(outside, path+"/dir"))
		g.must(os.Symlink(outside+"/key", path+"/"+scratch))
	})
	g.must(g.sync(path, false, "/", "dir/", "dir/key=2"))
	if got := g.read(path + "/dir/key"); got != "2" {
		t.Errorf("read %q", got)
	}
	if got, err := os.ReadFile(outside + "/key"); string(got) != "precious" {
		t.Errorf("outside there is %q, %v", got, err)
	}
}

func TestWatchTellsOfEachChangeOnce(t *testing.T) {
	g := newGuest(t)
	log, hosts := g.dir+"/log", g.dir+"/hosts"
	g.must(g.sync(log, false, "="))
	g.must(g.sync(hosts, false, "=localhost"))
	w, err := g.Watch([]string{log, hosts})
	g.must(err)
	ctx, cancel := context.WithCancel(t.Context())
	changes, ended := make(chan *agentv1.FileChange, 100), make(chan error, 1)
	go func() { ended <- w.Run(ctx, func(c *agentv1.FileChange) error { changes <- c; return nil }) }()
	next := func(path, content string) {
		t.Helper()
		select {
		case c := <-changes:
			if c.GetPath() != path || string(c.GetContent()) != content {
				t.Errorf("told of %s: %q; want %s: %q", c.GetPath(), c.GetContent(), path, content)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("not told of %s", path)
		}
	}
	// put writes in one go: a file that is cut first may be told of while it is empty, since another's change is told just then.
	put := func(path, content string) {
		t.Helper()
		g.in(func() {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			g.must(err)
			_, err = f.WriteString(content)
			g.must(errors.Join(err, f.Close()))
		})
	}
	next(log, "")
	next(hosts, "localhost")
	began := time.Now()
	put(log, "the end")
	next(log, "the end")
	t.Logf("told after %s", time.Since(began))
	put(log, "the end")                            // no change
	g.must(g.sync(hosts, false, "=from the host")) // not the guest's
	put(log, "the end, really")
	next(log, "the end, really")
	put(hosts, "from the guest")
	next(hosts, "from the guest")
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	g.must(w.Close())
	if len(changes) > 0 {
		t.Errorf("told of %v too", <-changes)
	}
}

func TestChangesThatNeverEndAreTold(t *testing.T) {
	g := newGuest(t)
	log := g.dir + "/log"
	g.must(g.sync(log, false, "="))
	w, err := g.Watch([]string{log})
	g.must(err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	told := make(chan struct{}, 100)
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx, func(*agentv1.FileChange) error { told <- struct{}{}; return nil }) }()
	<-told
	for deadline := time.Now().Add(20 * time.Second); len(told) == 0; {
		if time.Now().After(deadline) {
			t.Fatal("not told")
		}
		g.in(func() { g.must(os.WriteFile(log, []byte(time.Now().String()), 0o644)) })
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	g.must(w.Close())
}

func TestUnknownFileIsNotWatched(t *testing.T) {
	g := newGuest(t)
	g.must(g.sync(g.dir+"/folder", true, "/"))
	for _, path := range []string{g.dir + "/none", g.dir + "/folder"} {
		if _, err := g.Watch([]string{path}); !errdefs.IsNotFound(err) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestAnotherAgentsCopyIsReplaced(t *testing.T) {
	g := newGuest(t)
	path := g.dir + "/file"
	g.must(g.sync(path, false, "=old"))
	g.Files = New(g.namespaces, g.Files.dir)
	for range 3 {
		g.must(g.sync(path, false, "=new"))
	}
	if got := g.read(path); got != "new" {
		t.Errorf("read %q", got)
	}
	g.in(func() {
		mounts, err := os.ReadFile("/proc/thread-self/mountinfo")
		g.must(err)
		if n := strings.Count(string(mounts), " "+path+" "); n != 1 {
			t.Errorf("%d mounts", n)
		}
	})
}
