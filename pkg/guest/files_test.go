// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/pkg/vm"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// fakeAgent keeps the trees that it is sent, as "path=content", "path>target" or "path/".
type fakeAgent struct {
	mu      sync.Mutex
	trees   map[string][]string
	changed map[string]bool // by the guest since it was synced
	syncs   int
	session *fakeSession
	synced  chan struct{}
	refuse  error
}

// fakeSession ends all its watches at once.
type fakeSession struct {
	over    chan struct{}
	watches []chan *agentv1.FileChange
}

func newFakeAgent() *fakeAgent {
	return &fakeAgent{trees: map[string][]string{}, changed: map[string]bool{}, synced: make(chan struct{}, 100), session: &fakeSession{over: make(chan struct{})}}
}

func (a *fakeAgent) send(ctx context.Context, req *agentv1.SyncFilesRequest, chunks []*agentv1.FileChunk) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.refuse != nil || ctx.Err() != nil {
		return errors.Join(a.refuse, ctx.Err())
	}
	var tree []string
	for _, e := range req.GetEntries() {
		switch e.GetMode() & unix.S_IFMT {
		case unix.S_IFDIR:
			tree = append(tree, e.GetPath()+"/")
		case unix.S_IFLNK:
			tree = append(tree, e.GetPath()+">"+e.GetLink())
		default:
			content := ""
			for n := e.GetSize(); n > 0; chunks = chunks[1:] {
				content += string(chunks[0].GetData())
				if n -= uint64(len(chunks[0].GetData())); chunks[0].GetLast() != (n == 0) {
					return errors.New("the last chunk is not marked")
				}
			}
			tree = append(tree, e.GetPath()+"="+content)
		}
	}
	a.trees[req.GetPath()], a.changed[req.GetPath()] = tree, false
	a.syncs++
	a.synced <- struct{}{}
	return nil
}

func (a *fakeAgent) watch(_ context.Context, paths []string) (fileChanges, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	w := make(chan *agentv1.FileChange, 100)
	for _, path := range paths {
		if a.trees[path] == nil {
			return nil, fmt.Errorf("%s: %w", path, errdefs.ErrNotFound)
		}
		w <- &agentv1.FileChange{Path: path, Content: []byte(a.trees[path][0][1:]), Synced: !a.changed[path]}
	}
	a.session.watches = append(a.session.watches, w)
	return &fakeChanges{from: w, over: a.session.over, closed: make(chan struct{})}, nil
}

// change changes a single file in the guest.
func (a *fakeAgent) change(path, content string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.trees[path], a.changed[path] = []string{"=" + content}, true
	for _, w := range a.session.watches {
		w <- &agentv1.FileChange{Path: path, Content: []byte(content)}
	}
}

// restart ends the session; an agent that forgets is another one.
func (a *fakeAgent) restart(forget bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	close(a.session.over)
	a.session = &fakeSession{over: make(chan struct{})}
	if forget {
		a.trees = map[string][]string{}
	}
}

func (a *fakeAgent) tree(path string) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.trees[path]
}

type fakeChanges struct {
	from   chan *agentv1.FileChange
	over   chan struct{}
	closed chan struct{}
	once   sync.Once
}

func (c *fakeChanges) next() (*agentv1.FileChange, error) {
	select {
	case change := <-c.from:
		return change, nil
	case <-c.over:
	case <-c.closed:
	}
	return nil, fmt.Errorf("the session is over: %w", errdefs.ErrUnavailable)
}

func (c *fakeChanges) close() error { c.once.Do(func() { close(c.closed) }); return nil }

// node is a host with files and one guest.
type node struct {
	t *testing.T
	*fakeAgent
	dir     string
	folders folderWatch
	keeper  *keeper
}

func newNode(t *testing.T) *node {
	t.Helper()
	return &node{t: t, fakeAgent: newFakeAgent(), dir: t.TempDir()}
}

func (n *node) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) file(name, content string) string {
	n.t.Helper()
	path := filepath.Join(n.dir, name)
	n.must(os.MkdirAll(filepath.Dir(path), 0o755))
	n.must(os.WriteFile(path, []byte(content), 0o644))
	return path
}

// write makes a folder what kubelet's atomic writer makes of one key.
func (n *node) write(folder, version, content string) string {
	n.t.Helper()
	path := filepath.Join(n.dir, folder)
	old, _ := os.Readlink(path + "/..data") //nolint:errcheck // there may be none
	n.file(folder+"/.."+version+"/key", content)
	n.must(os.Symlink(".."+version, path+"/..data_tmp"))
	n.must(os.Rename(path+"/..data_tmp", path+"/..data"))
	if old == "" {
		n.must(os.Symlink("..data/key", path+"/key"))
	} else {
		n.must(os.RemoveAll(filepath.Join(path, old)))
	}
	return path
}

func (n *node) keep(trees ...vm.FileTree) {
	n.t.Helper()
	k, err := newKeeper(n, &n.folders, "container", trees)
	n.must(err)
	n.must(k.step(n.t.Context()))
	ctx, cancel := context.WithCancel(context.WithoutCancel(n.t.Context()))
	k.start(ctx)
	n.keeper = k
	n.t.Cleanup(func() {
		cancel()
		<-k.done
		if n.folders.watcher != nil || len(n.folders.by) > 0 {
			n.t.Error("folders are watched on")
		}
	})
}

// eventually waits for what comes within two seconds, and a busy machine.
func (n *node) eventually(what string, is func() bool) {
	n.t.Helper()
	began := time.Now()
	for !is() {
		if time.Since(began) > 10*time.Second {
			n.t.Fatalf("not within %s: %s", time.Since(began), what)
		}
		select {
		case <-n.synced:
		case <-time.After(10 * time.Millisecond):
		}
	}
	n.t.Logf("%s: after %s", what, time.Since(began))
}

func (n *node) has(path string, want ...string) {
	n.t.Helper()
	n.eventually("the guest has "+strings.Join(want, " "), func() bool { return slices.Equal(n.tree(path), want) })
}

func (n *node) hostHas(path, want string) {
	n.t.Helper()
	n.eventually("the host has "+want, func() bool { text, err := os.ReadFile(path); return err == nil && string(text) == want })
}

func TestAtomicWritersFolderIsRefreshed(t *testing.T) {
	n := newNode(t)
	path := n.write("token", "v1", "old")
	n.keep(vm.FileTree{HostPath: path, GuestPath: "/token", Directory: true})
	n.has("/token", "/", "..data>..v1", "..v1/", "..v1/key=old", "key>..data/key")
	for i := range 5 {
		v, content := fmt.Sprint("w", i), fmt.Sprint("new", i)
		n.write("token", v, content)
		n.has("/token", "/", "..data>.."+v, ".."+v+"/", ".."+v+"/key="+content, "key>..data/key")
	}
}

func TestSingleFileIsRefreshed(t *testing.T) {
	n := newNode(t)
	path := n.file("hosts", "1")
	n.keep(vm.FileTree{HostPath: path, GuestPath: "/etc/hosts"})
	n.has("/etc/hosts", "=1")
	n.file("hosts", "in place")
	n.has("/etc/hosts", "=in place")
	n.must(os.Rename(n.file("hosts.new", "replaced"), path))
	n.has("/etc/hosts", "=replaced")
	n.file("hosts", "in place again")
	n.has("/etc/hosts", "=in place again")
	n.change("/etc/hosts", "guest's")
	n.hostHas(path, "guest's")
}

func TestSymlinkedHostPathIsResolvedOnce(t *testing.T) {
	n := newNode(t)
	n.file("one/f", "one")
	n.file("two/f", "two")
	n.must(os.Symlink("one", n.dir+"/link"))
	n.keep(vm.FileTree{HostPath: n.dir + "/link/f", GuestPath: "/f"})
	n.has("/f", "=one")
	n.must(os.Remove(n.dir + "/link"))
	n.must(os.Symlink("two", n.dir+"/link"))
	n.file("one/f", "still one")
	n.has("/f", "=still one")
	n.change("/f", "guest's")
	n.hostHas(n.dir+"/one/f", "guest's")
	n.hostHas(n.dir+"/two/f", "two")
}

func TestWhatHasNotChangedIsNotSent(t *testing.T) {
	n := newNode(t)
	path, other := n.file("a/hosts", "1"), n.file("b/other", "1")
	n.keep(vm.FileTree{HostPath: path, GuestPath: "/hosts", ReadOnly: true}, vm.FileTree{HostPath: other, GuestPath: "/other", ReadOnly: true})
	n.file("a/hosts", "1")
	n.file("a/neighbour", "x")
	n.file("b/other", "2")
	n.has("/other", "=2")
	if n.syncs != 3 {
		t.Errorf("%d times something was sent, want 3", n.syncs)
	}
}

func TestGuestsChangesAreWrittenIntoTheSameFile(t *testing.T) {
	n := newNode(t)
	path := n.file("log", "")
	before, err := os.Stat(path)
	n.must(err)
	n.keep(vm.FileTree{HostPath: path, GuestPath: "/dev/termination-log"})
	n.change("/dev/termination-log", "a long farewell")
	n.hostHas(path, "a long farewell")
	n.change("/dev/termination-log", "bye")
	n.hostHas(path, "bye")
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("it is another file: %v", err)
	}
}

// A link that somebody puts in the file's place leads the guest's content nowhere.
func TestGuestsChangesFollowNoLink(t *testing.T) {
	n := newNode(t)
	path, precious := n.file("pod/log", ""), n.file("precious", "precious")
	n.keep(vm.FileTree{HostPath: path, GuestPath: "/log"})
	n.must(os.Remove(path))
	n.must(os.Symlink(precious, path))
	n.change("/log", "evil")
	n.eventually("it is refused", func() bool {
		n.keeper.mu.Lock()
		defer n.keeper.mu.Unlock()
		return n.keeper.problem != nil
	})
	n.hostHas(precious, "precious")
}

func TestGuestCannotChangeWhatIsNotItsOwn(t *testing.T) {
	n := newNode(t)
	hosts, config := n.file("hosts", "1"), n.write("config", "v1", "1")
	n.keep(vm.FileTree{HostPath: hosts, GuestPath: "/hosts", ReadOnly: true}, vm.FileTree{HostPath: config, GuestPath: "/config", Directory: true})
	for _, path := range []string{"/hosts", "/config", "/config/key", "/etc/passwd", ""} {
		if err := n.keeper.take(&agentv1.FileChange{Path: path, Content: []byte("evil")}); err == nil {
			t.Errorf("%q was taken", path)
		}
	}
	n.hostHas(hosts, "1")
	n.hostHas(config+"/key", "1")
}

func TestFetchedChangesAreOnTheHost(t *testing.T) {
	n := newNode(t)
	path := n.file("log", "")
	k, err := newKeeper(n, &n.folders, "", []vm.FileTree{{HostPath: path, GuestPath: "/log"}})
	n.must(err)
	n.must(k.step(t.Context()))
	n.change("/log", "the end")
	n.must(k.pull(t.Context()))
	if text, err := os.ReadFile(path); string(text) != "the end" {
		t.Errorf("the host has %q, %v", text, err)
	}
	n.must(k.close())
}

// What the guest has changed while nobody was connected is not lost, and a guest that has
// forgotten all gets all.
func TestSessionsThatEnd(t *testing.T) {
	for _, forget := range []bool{false, true} {
		n := newNode(t)
		log, config := n.file("log", "before"), n.write("config", "v1", "1")
		n.keep(vm.FileTree{HostPath: log, GuestPath: "/log"}, vm.FileTree{HostPath: config, GuestPath: "/config", Directory: true})
		n.restart(forget)
		want := "before"
		if !forget {
			want = "written while nobody listened"
			n.change("/log", want)
		}
		n.write("config", "v2", "2")
		n.has("/config", "/", "..data>..v2", "..v2/", "..v2/key=2", "key>..data/key")
		n.has("/log", "="+want)
		n.hostHas(log, want)
		n.change("/log", "after")
		n.hostHas(log, "after")
	}
}

func TestRefusedTreeKeepsNoOtherFromBeingKept(t *testing.T) {
	n := newNode(t)
	hosts, log := n.file("a/hosts", "1"), n.file("b/log", "")
	n.keep(vm.FileTree{HostPath: hosts, GuestPath: "/hosts", ReadOnly: true}, vm.FileTree{HostPath: log, GuestPath: "/log"})
	n.file("a/hosts", strings.Repeat("x", maxFile+1))
	n.change("/log", "bye")
	n.hostHas(log, "bye")
	n.eventually("the reason is known", func() bool {
		n.keeper.mu.Lock()
		defer n.keeper.mu.Unlock()
		return errdefs.IsResourceExhausted(n.keeper.problem)
	})
	n.file("a/hosts", "2")
	n.has("/hosts", "=2")
}

func TestMissedEventsMakeEverybodyLook(t *testing.T) {
	n := newNode(t)
	path := n.file("a/hosts", "1")
	n.keep(vm.FileTree{HostPath: path, GuestPath: "/hosts"})
	n.must(n.folders.watcher.Remove(filepath.Dir(path))) // no more events
	n.file("a/hosts", "2")
	n.folders.tellAll()
	n.has("/hosts", "=2")
	n.must(n.folders.watcher.Add(filepath.Dir(path)))
}

func TestTreesThatCannotBeCopied(t *testing.T) {
	many := func(n *node) string {
		for i := range maxEntries {
			n.file(fmt.Sprintf("many/%d", i), "")
		}
		return n.dir + "/many"
	}
	for name, tc := range map[string]struct {
		make func(n *node) string
		is   func(error) bool
	}{
		"a large file": {func(n *node) string { return n.file("f", strings.Repeat("x", maxFile+1)) }, errdefs.IsResourceExhausted},
		"many files":   {many, errdefs.IsResourceExhausted},
		"nothing":      {func(n *node) string { return n.dir + "/none" }, errdefs.IsFailedPrecondition},
		"a pipe":       {func(n *node) string { n.must(unix.Mkfifo(n.dir+"/p", 0o600)); return n.dir + "/p" }, errdefs.IsFailedPrecondition},
		"a pipe in a folder": {func(n *node) string {
			n.file("d/f", "")
			n.must(unix.Mkfifo(n.dir+"/d/p", 0o600))
			return n.dir + "/d"
		}, errdefs.IsFailedPrecondition},
		"much content": {func(n *node) string {
			for i := range 5 {
				n.file(fmt.Sprintf("d/%d", i), strings.Repeat("x", maxFile))
			}
			return n.dir + "/d"
		}, errdefs.IsResourceExhausted},
	} {
		n := newNode(t)
		path := tc.make(n)
		info, err := os.Stat(path)
		k, err := newKeeper(n, &n.folders, "", []vm.FileTree{{HostPath: path, GuestPath: "/x", Directory: err == nil && info.IsDir()}})
		if err == nil {
			err = k.step(t.Context())
			n.must(k.close())
		}
		if !tc.is(err) || !strings.Contains(err.Error(), "/x") || !strings.Contains(err.Error(), n.dir) {
			t.Errorf("%s: %v", name, err)
		}
		if n.folders.watcher != nil {
			t.Errorf("%s: folders are watched on", name)
		}
	}
}

// A reader in the guest must not be kept by an agent that says nothing.
func TestFetchEndsWithItsContext(t *testing.T) {
	n := newNode(t)
	k, err := newKeeper(silent{}, &n.folders, "", []vm.FileTree{{HostPath: n.file("f", ""), GuestPath: "/f"}})
	n.must(err)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := k.pull(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	n.must(k.close())
}

// silent is an agent whose calls end with their context alone.
type silent struct{}

func (silent) send(ctx context.Context, _ *agentv1.SyncFilesRequest, _ []*agentv1.FileChunk) error {
	<-ctx.Done()
	return ctx.Err()
}

func (silent) watch(ctx context.Context, _ []string) (fileChanges, error) {
	return silentChanges{ctx}, nil
}

type silentChanges struct{ ctx context.Context } //nolint:containedctx // it is the call's

func (c silentChanges) next() (*agentv1.FileChange, error) {
	<-c.ctx.Done()
	return nil, c.ctx.Err()
}

func (silentChanges) close() error { return nil }
