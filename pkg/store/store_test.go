// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/pkg/paths"
	"github.com/vmlet/vmlet/pkg/vm"
)

func node(t *testing.T) paths.Node {
	t.Helper()
	return paths.Node{Root: filepath.Join(t.TempDir(), "root")}
}

func openAt(t *testing.T, n paths.Node) *Store {
	t.Helper()
	s, err := Open(t.Context(), n, Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func sandbox(id string, created time.Time) vm.Sandbox {
	return vm.Sandbox{
		ID:        id,
		Spec:      vm.SandboxSpec{Name: "pod-" + id, Labels: map[string]string{"app": id}},
		CreatedAt: created.UTC(),
		Status:    vm.SandboxStatus{State: vm.SandboxCreating},
	}
}

func TestRecordsAndOwnerSurviveReopening(t *testing.T) {
	n := node(t)
	s := openAt(t, n)
	want := sandbox("a", time.Now().Round(0))
	if err := s.Sandboxes().Create("a", want, "create"); err != nil {
		t.Fatal(err)
	}
	container := vm.Container{ID: "c", SandboxID: "a", CreatedAt: time.Now().Round(0).UTC()}
	if err := s.Containers().Create("c", container, "create"); err != nil {
		t.Fatal(err)
	}
	owner := s.Owner()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	again := openAt(t, n)
	if again.Owner() != owner || len(owner) != 32 {
		t.Errorf("owner %q became %q", owner, again.Owner())
	}
	if diff := cmp.Diff([]vm.Sandbox{want}, again.Sandboxes().List()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]vm.Container{container}, again.Containers().List()); diff != "" {
		t.Error(diff)
	}
}

func TestEachStoreHasItsOwnOwner(t *testing.T) {
	if a, b := openAt(t, node(t)).Owner(), openAt(t, node(t)).Owner(); a == b {
		t.Errorf("both are %s", a)
	}
}

func TestFilesAreForTheirOwnerOnly(t *testing.T) {
	n := node(t)
	openAt(t, n)
	for path, want := range map[string]fs.FileMode{n.DB(): 0o600, n.Lock(): 0o600, n.Root: 0o711} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", path, got, want)
		}
	}
}

func TestASecondOpenerIsRefusedAndToldByWhom(t *testing.T) {
	n := node(t)
	s := openAt(t, n)
	_, err := Open(t.Context(), n, Options{})
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
		t.Fatalf("error = %v, want FailedPrecondition with our process ID", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	openAt(t, n)
}

func TestTheLockEndsWithItsProcess(t *testing.T) {
	n := node(t)
	child := crashChild(t, n)
	_, err := Open(t.Context(), n, Options{})
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), strconv.Itoa(child.Process.Pid)) {
		t.Errorf("error = %v, want FailedPrecondition with process ID %d", err, child.Process.Pid)
	}
	kill(t, child)
	openAt(t, n)
}

// A program that a killed vmlet was about to start has its files for a moment longer.
func TestTheLockOfADeadProcessIsWaitedFor(t *testing.T) {
	n := node(t)
	child := crashChild(t, n)
	kill(t, child)
	left, err := os.OpenFile(n.Lock(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(left.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	go func() {
		time.Sleep(100 * time.Millisecond)
		left.Close() //nolint:errcheck // it is only held
	}()
	openAt(t, n)
}

func TestAnInterruptedFirstOpenIsBegunAnew(t *testing.T) {
	n := node(t)
	if err := os.MkdirAll(n.Root, 0o711); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(n.DB()+".part", []byte("half a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	openAt(t, n)
	if _, err := os.Stat(n.DB() + ".part"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the part file is still there: %v", err)
	}
}

func TestWritesAfterCloseAreUnavailable(t *testing.T) {
	s := openAt(t, node(t))
	if err := s.Sandboxes().Create("a", sandbox("a", time.Now()), "create"); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Sandboxes().Delete("a", "delete"); !errdefs.IsUnavailable(err) {
		t.Errorf("error = %v, want Unavailable", err)
	}
	if _, err := s.Sandboxes().Get("a"); err != nil {
		t.Errorf("reads go on: %v", err)
	}
}

// kill ends a child as a crash does.
func kill(t *testing.T, child *exec.Cmd) {
	t.Helper()
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := child.Wait(); err == nil {
		t.Fatal("the child was not killed")
	}
}
