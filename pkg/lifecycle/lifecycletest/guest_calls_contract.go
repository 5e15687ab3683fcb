// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// guestCalls is the part of the contract that is about what is done in a guest for its owner.
func guestCalls() map[string]func(*testing.T, GuestEnv) {
	return map[string]func(*testing.T, GuestEnv){
		"a file comes back as it was written":       fileComesBack,
		"a part of a file is read":                  partIsRead,
		"a file is overwritten only when told":      overwriteIsTold,
		"a file needs its folder, or makes it":      folderIsNeeded,
		"a file that breaks off leaves what was":    brokenFileLeavesNothing,
		"a reader that goes away is told its error": failedReaderEnds,
		"what is no file is refused":                folderIsNoFile,
		"keys are replaced, added and removed":      keysChange,
		"what is not a user's is NotFound":          strangersAreNotFound,
	}
}

// readFile is a file as it came.
type readFile struct {
	vm.GuestFile
	bytes.Buffer

	begun int
}

func (r *readFile) begin(f vm.GuestFile) (io.Writer, error) {
	r.GuestFile = f
	r.begun++
	return &r.Buffer, nil
}

func mustWrite(t *testing.T, env GuestEnv, f vm.WriteGuestFile, content string) {
	t.Helper()
	if err := env.Guest.WriteFile(t.Context(), env.Answering, f, bytes.NewReader([]byte(content))); err != nil {
		t.Fatal(err)
	}
}

func mustRead(t *testing.T, env GuestEnv, req vm.ReadGuestFile) *readFile {
	t.Helper()
	r := &readFile{}
	if err := env.Guest.ReadFile(t.Context(), env.Answering, req, r.begin); err != nil {
		t.Fatal(err)
	}
	if r.begun != 1 {
		t.Errorf("told of the file %d times", r.begun)
	}
	return r
}

func fileComesBack(t *testing.T, env GuestEnv) {
	for _, size := range []int{0, 1, 31 << 10, 31<<10 + 1, 3 << 20} {
		content := bytes.Repeat([]byte{'a', 0, '\n'}, size/3+1)[:size]
		path := env.Dir + "/file"
		mustWrite(t, env, vm.WriteGuestFile{Path: path, Mode: 0o2640, UID: 7, GID: 8, Overwrite: true}, string(content))
		got := mustRead(t, env, vm.ReadGuestFile{Path: path})
		if !bytes.Equal(got.Bytes(), content) || got.Size != int64(size) || got.Mode != 0o2640 || got.UID != 7 || got.GID != 8 {
			t.Errorf("%d bytes came back as %d: %+v", size, got.Len(), got.GuestFile)
		}
	}
}

func partIsRead(t *testing.T, env GuestEnv) {
	path := env.Dir + "/file"
	mustWrite(t, env, vm.WriteGuestFile{Path: path}, "0123456789")
	for _, tc := range []struct {
		offset, limit int64
		want          string
	}{{0, 4, "0123"}, {4, 0, "456789"}, {8, 100, "89"}, {10, 0, ""}, {11, 5, ""}} {
		if got := mustRead(t, env, vm.ReadGuestFile{Path: path, Offset: tc.offset, Limit: tc.limit}); got.String() != tc.want || got.Size != 10 {
			t.Errorf("%+v: %q of %d bytes", tc, got, got.Size)
		}
	}
}

func overwriteIsTold(t *testing.T, env GuestEnv) {
	f := vm.WriteGuestFile{Path: env.Dir + "/file", Mode: 0o600}
	mustWrite(t, env, f, "first")
	err := env.Guest.WriteFile(t.Context(), env.Answering, f, bytes.NewReader([]byte("second")))
	if !errdefs.IsAlreadyExists(err) {
		t.Errorf("got %v", err)
	}
	if got := mustRead(t, env, vm.ReadGuestFile{Path: f.Path}); got.String() != "first" {
		t.Errorf("it is %q", got)
	}
}

func folderIsNeeded(t *testing.T, env GuestEnv) {
	f := vm.WriteGuestFile{Path: env.Dir + "/new/file", Mode: 0o600}
	if err := env.Guest.WriteFile(t.Context(), env.Answering, f, bytes.NewReader(nil)); !errdefs.IsNotFound(err) {
		t.Errorf("got %v", err)
	}
	f.Parents = true
	mustWrite(t, env, f, "x")
	if got := mustRead(t, env, vm.ReadGuestFile{Path: f.Path}); got.String() != "x" {
		t.Errorf("it is %q", got)
	}
}

// broken brings something and then an error.
type broken struct {
	left int
	err  error
}

// Read implements io.Reader.
func (b *broken) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, b.err
	}
	n := min(len(p), b.left)
	b.left -= n
	return n, nil
}

func brokenFileLeavesNothing(t *testing.T, env GuestEnv) {
	f := vm.WriteGuestFile{Path: env.Dir + "/kept/file", Mode: 0o600, Parents: true, Overwrite: true}
	mustWrite(t, env, f, "kept")
	gone := errors.New("the client has gone")
	for _, size := range []int{0, 100, 1 << 20} {
		if err := env.Guest.WriteFile(t.Context(), env.Answering, f, &broken{size, gone}); !errors.Is(err, gone) {
			t.Errorf("after %d bytes: %v", size, err)
		}
	}
	if got := mustRead(t, env, vm.ReadGuestFile{Path: f.Path}); got.String() != "kept" {
		t.Errorf("it is %d bytes", got.Len())
	}
	if env.Entries != nil {
		env.Entries(env.Dir+"/kept", "file")
	}
}

func failedReaderEnds(t *testing.T, env GuestEnv) {
	path := env.Dir + "/file"
	mustWrite(t, env, vm.WriteGuestFile{Path: path}, "content")
	gone := errors.New("the client has gone")
	err := env.Guest.ReadFile(t.Context(), env.Answering, vm.ReadGuestFile{Path: path}, func(vm.GuestFile) (io.Writer, error) { return nil, gone })
	if !errors.Is(err, gone) {
		t.Errorf("begin: %v", err)
	}
	err = env.Guest.ReadFile(t.Context(), env.Answering, vm.ReadGuestFile{Path: path}, func(vm.GuestFile) (io.Writer, error) { return refusing{gone}, nil })
	if !errors.Is(err, gone) {
		t.Errorf("write: %v", err)
	}
}

// refusing is a writer that takes nothing.
type refusing struct{ err error }

// Write implements io.Writer.
func (f refusing) Write([]byte) (int, error) { return 0, f.err }

func folderIsNoFile(t *testing.T, env GuestEnv) {
	begin := (&readFile{}).begin
	if err := env.Guest.ReadFile(t.Context(), env.Answering, vm.ReadGuestFile{Path: env.Dir}, begin); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("read a folder: %v", err)
	}
	if err := env.Guest.ReadFile(t.Context(), env.Answering, vm.ReadGuestFile{Path: env.Dir + "/moon"}, begin); !errdefs.IsNotFound(err) {
		t.Errorf("read nothing: %v", err)
	}
	f := vm.WriteGuestFile{Path: env.Dir, Overwrite: true}
	if err := env.Guest.WriteFile(t.Context(), env.Answering, f, bytes.NewReader(nil)); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("write a folder: %v", err)
	}
}

// Keys of nobody.
const (
	keyA = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA a@host"
	keyB = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB b@host"
)

func keysChange(t *testing.T, env GuestEnv) {
	for _, step := range []struct {
		mode vm.KeysMode
		keys []string
		want []string
	}{
		{vm.KeysAdd, nil, nil},
		{vm.KeysAdd, []string{keyA}, []string{keyA}},
		{vm.KeysAdd, []string{keyB, keyA}, []string{keyA, keyB}},
		{vm.KeysRemove, []string{keyA}, []string{keyB}},
		{vm.KeysRemove, []string{keyA}, []string{keyB}},
		{vm.KeysReplace, []string{keyA}, []string{keyA}},
		{vm.KeysReplace, nil, nil},
	} {
		err := env.Guest.SetKeys(t.Context(), env.Answering, vm.KeysChange{User: env.User, Keys: step.keys, Mode: step.mode})
		if err != nil {
			t.Fatalf("%s %q: %v", step.mode, step.keys, err)
		}
		if got, err := env.Guest.Keys(t.Context(), env.Answering, env.User); err != nil || !slices.Equal(got, step.want) {
			t.Errorf("%s %q: %q, %v", step.mode, step.keys, got, err)
		}
	}
}

func strangersAreNotFound(t *testing.T, env GuestEnv) {
	for name, call := range map[string]func(context.Context) error{
		"Keys": func(ctx context.Context) error {
			_, err := env.Guest.Keys(ctx, env.Answering, "no-such-user")
			return err
		},
		"SetKeys": func(ctx context.Context) error {
			return env.Guest.SetKeys(ctx, env.Answering, vm.KeysChange{User: "no-such-user", Keys: []string{keyA}, Mode: vm.KeysAdd})
		},
		"SetPassword": func(ctx context.Context) error {
			return env.Guest.SetPassword(ctx, env.Answering, vm.GuestPassword{User: "no-such-user", Password: "secret"})
		},
	} {
		if err := call(t.Context()); !errdefs.IsNotFound(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
