// SPDX-License-Identifier: Apache-2.0

package qga

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// fileHost is a host whose agent knows the commands on files, users and keys, too.
type fileHost struct {
	*host

	files map[int64]*os.File
	next  int64
	// said are the answers to commands that do nothing here; what is not here is unknown to the agent.
	said map[string]string
	// asked are the arguments of these.
	asked map[string]string
}

func newFileHost(said map[string]string) *fileHost {
	return &fileHost{host: newHost(), files: map[int64]*os.File{}, said: said, asked: map[string]string{}}
}

// Command implements Transport.
func (h *fileHost) Command(ctx context.Context, id string, cmd []byte) ([]byte, error) {
	var w struct {
		Execute   string `json:"execute"`
		Arguments struct {
			Path   string `json:"path"`
			Mode   string `json:"mode"`
			Handle int64  `json:"handle"`
			Offset int64  `json:"offset"`
			Count  int64  `json:"count"`
			Data   []byte `json:"buf-b64"`
		} `json:"arguments"`
	}
	if err := json.Unmarshal(cmd, &w); err != nil {
		return nil, err
	}
	if answer, ok := h.said[w.Execute]; ok {
		h.asked[w.Execute] = string(cmd)
		return []byte(answer), nil
	}
	if !strings.HasPrefix(w.Execute, "guest-file-") {
		return h.host.Command(ctx, id, cmd)
	}
	a := w.Arguments
	if w.Execute == "guest-file-open" {
		flags := os.O_RDONLY
		if a.Mode == "r+" {
			flags = os.O_RDWR
		}
		f, err := os.OpenFile(a.Path, flags, 0)
		if err != nil {
			return nil, fmt.Errorf("internal error: unable to execute QEMU agent command 'guest-file-open': failed to open file '%s': No such file or directory", a.Path)
		}
		h.next++
		h.files[h.next] = f
		return fmt.Appendf(nil, `{"return": %d}`, h.next), nil
	}
	f := h.files[a.Handle]
	if f == nil {
		return nil, errors.New("internal error: Invalid parameter 'handle'")
	}
	var result any = struct{}{}
	var err error
	switch w.Execute {
	case "guest-file-seek":
		_, err = f.Seek(a.Offset, io.SeekStart)
	case "guest-file-read":
		b := make([]byte, a.Count)
		n, readErr := io.ReadFull(f, b)
		result = map[string]any{"count": n, "buf-b64": b[:n], "eof": readErr != nil}
	case "guest-file-write":
		var n int
		n, err = f.Write(a.Data[:(len(a.Data)+1)/2]) // as an agent may
		result = map[string]any{"count": n, "eof": false}
	case "guest-file-close":
		delete(h.files, a.Handle)
		err = f.Close()
	}
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string]any{"return": result})
}

func newFiles(t *testing.T) (*Agent, string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("owners are set by root")
	}
	// A folder that only root may change, up to the root.
	dir, err := os.MkdirTemp("/root", "qga-test") //nolint:usetesting // that of t.TempDir may be changed by others
	if err != nil {
		t.Fatal(err)
	}
	h := newFileHost(nil)
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
		if len(h.files) != 0 || len(h.remembered()) != 0 {
			t.Errorf("the agent still holds %v and %v", h.files, h.remembered())
		}
	})
	return New(h), dir
}

func TestAFileIsWrittenAndReadInPieces(t *testing.T) {
	a, dir := newFiles(t)
	content := bytes.Repeat([]byte("0123456789"), 100<<10)
	f := vm.WriteGuestFile{Path: dir + "/a folder/file", Mode: 0o4750, UID: 7, GID: 8, Parents: true}
	if err := a.WriteFile(t.Context(), "guest", f, bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	for _, part := range []struct{ offset, limit int64 }{{0, 0}, {3, 0}, {3, 5}, {int64(len(content)), 0}, {0, 300 << 10}} {
		var got bytes.Buffer
		var file vm.GuestFile
		req := vm.ReadGuestFile{Path: f.Path, Offset: part.offset, Limit: part.limit}
		err := a.ReadFile(t.Context(), "guest", req, func(f vm.GuestFile) (io.Writer, error) { file = f; return &got, nil })
		want := content[part.offset:]
		if part.limit > 0 {
			want = want[:part.limit]
		}
		if err != nil || !bytes.Equal(got.Bytes(), want) || file.Size != int64(len(content)) || file.Mode != 0o4750 || file.UID != 7 || file.GID != 8 || file.Modified.IsZero() {
			t.Errorf("%+v: %d bytes, %v, %+v", part, got.Len(), err, file)
		}
	}
	if entries, err := os.ReadDir(dir + "/a folder"); err != nil || len(entries) != 1 {
		t.Errorf("left are %v, %v", entries, err)
	}
}

func TestAFileByQGATakesOnlyTheRightPlace(t *testing.T) {
	a, dir := newFiles(t)
	if err := errors.Join(os.Mkdir(dir+"/folder", 0o700), os.WriteFile(dir+"/file", []byte("old"), 0o600), os.Symlink("file", dir+"/link"),
		os.Mkdir(dir+"/open", 0o700), os.Chmod(dir+"/open", 0o777), os.Mkdir(dir+"/open/closed", 0o700), os.Symlink("open/closed", dir+"/to-open")); err != nil {
		t.Fatal(err)
	}
	for path, is := range map[string]func(error) bool{
		dir + "/folder": errdefs.IsFailedPrecondition, dir + "/link": errdefs.IsFailedPrecondition, dir + "/no/file": errdefs.IsNotFound,
		// Who may change a folder could have the agent, which is root, open something else.
		dir + "/open/file": errdefs.IsFailedPrecondition, dir + "/open/closed/file": errdefs.IsFailedPrecondition, dir + "/to-open/file": errdefs.IsFailedPrecondition,
	} {
		err := a.WriteFile(t.Context(), "guest", vm.WriteGuestFile{Path: path, Overwrite: true}, strings.NewReader("new"))
		if !is(err) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if err := a.WriteFile(t.Context(), "guest", vm.WriteGuestFile{Path: dir + "/file"}, strings.NewReader("new")); !errdefs.IsAlreadyExists(err) {
		t.Errorf("got %v", err)
	}
	gone := errors.New("the client has gone")
	err := a.WriteFile(t.Context(), "guest", vm.WriteGuestFile{Path: dir + "/file", Overwrite: true}, io.MultiReader(strings.NewReader("half"), broken{gone}))
	if !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
	begin := func(vm.GuestFile) (io.Writer, error) { return io.Discard, nil }
	if err := a.ReadFile(t.Context(), "guest", vm.ReadGuestFile{Path: dir}, begin); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("got %v", err)
	}
	if err := a.ReadFile(t.Context(), "guest", vm.ReadGuestFile{Path: dir + "/no"}, begin); !errdefs.IsNotFound(err) {
		t.Errorf("got %v", err)
	}
	if err := a.ReadFile(t.Context(), "guest", vm.ReadGuestFile{Path: dir + "/file"}, func(vm.GuestFile) (io.Writer, error) { return nil, gone }); !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
	var names []string
	err = filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		names = append(names, strings.TrimPrefix(path, dir))
		return err
	})
	if want := []string{"", "/file", "/folder", "/link", "/open", "/open/closed", "/to-open"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("left are %q, %v", names, err)
	}
	if text, err := os.ReadFile(dir + "/file"); string(text) != "old" {
		t.Errorf("it is %q, %v", text, err)
	}
}

type broken struct{ err error }

// Read implements io.Reader.
func (b broken) Read([]byte) (int, error) { return 0, b.err }

func TestInfoIsPutTogether(t *testing.T) {
	h := newFileHost(map[string]string{
		"guest-info":          `{"return": {"version": "7.2.19", "supported_commands": []}}`,
		"guest-get-osinfo":    `{"return": {"id": "debian", "version-id": "12", "pretty-name": "Debian 12", "kernel-release": "6.1", "machine": "x86_64"}}`,
		"guest-get-host-name": `{"return": {"host-name": "h"}}`,
		"guest-get-time":      `{"return": 1500000000}`,
		"guest-get-users":     `{"return": [{"user": "u\n", "login-time": 1.5}]}`,
		"guest-get-fsinfo":    `{"return": [{"name": "vda2", "mountpoint": "/", "type": "ext4", "used-bytes": 4, "total-bytes": 9, "disk": []}]}`,
		"guest-network-get-interfaces": `{"return": [{"name": "lo", "hardware-address": "00:00:00:00:00:00"}, {"name": "eth0", "hardware-address": "02:00:00:00:00:01",
			"ip-addresses": [{"ip-address": "10.0.0.1", "ip-address-type": "ipv4", "prefix": 24}, {"ip-address": "10.0.0.1", "prefix": 99}, {"ip-address": "x", "prefix": 1}]}]}`,
	})
	got, err := New(h).Info(t.Context(), "guest")
	if err != nil {
		t.Fatal(err)
	}
	if got.Agent != vm.AgentQEMU || got.AgentVersion != "7.2.19" || got.OSID != "debian" || got.OSVersion != "12" || got.OS != "Debian 12" || got.Kernel != "6.1" ||
		got.Machine != "x86_64" || got.Hostname != "h" || got.Clock.UnixNano() != 1500000000 || len(got.BootID) != 36 || got.Uptime <= 0 || len(got.Unknown) != 0 {
		t.Errorf("%+v", got)
	}
	if len(got.Logins) != 1 || got.Logins[0].User != "u" || got.Logins[0].At.UnixMilli() != 1500 || len(got.Interfaces) != 2 || got.Interfaces[0].MAC != "" ||
		fmt.Sprint(got.Interfaces[1].Addresses) != "[10.0.0.1/24]" || len(got.Filesystems) != 1 || got.Filesystems[0] != (vm.GuestFilesystem{Device: "/dev/vda2", MountPoint: "/", Type: "ext4", Total: 9, Used: 4}) {
		t.Errorf("%+v", got)
	}
	// What an agent does not know, or may not, is said to be unknown; that nobody answers is an error.
	delete(h.said, "guest-get-users")
	if got, err = New(h).Info(t.Context(), "guest"); err != nil || !slices.Equal(got.Unknown, []vm.GuestFact{vm.FactLogins}) {
		t.Errorf("%+v, %v", got.Unknown, err)
	}
	h.intercept = silent("guest")
	if _, err := New(h).Info(t.Context(), "guest"); !errdefs.IsUnavailable(err) {
		t.Errorf("got %v", err)
	}
}

func TestKeysAndPasswordsByQGA(t *testing.T) {
	h := newFileHost(map[string]string{
		"guest-ssh-get-authorized-keys": `{"return": {"keys": ["a", "b"]}}`,
		"guest-set-user-password":       `{"return": {}}`,
	})
	a := New(h)
	if got, err := a.Keys(t.Context(), "guest", "u"); err != nil || !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("%q, %v", got, err)
	}
	if err := a.SetPassword(t.Context(), "guest", vm.GuestPassword{User: "u", Password: "sesame", Crypted: true}); err != nil {
		t.Error(err)
	}
	if asked := h.asked["guest-set-user-password"]; !strings.Contains(asked, `"crypted":true,"password":"c2VzYW1l","username":"u"`) {
		t.Errorf("asked %s", asked)
	}
	for answer, is := range map[string]func(error) bool{
		`{"error": {"desc": "failed to lookup user 'u'"}}`:                            errdefs.IsNotFound,
		`{"error": {"desc": "child process has failed to set user password sesame"}}`: errdefs.IsFailedPrecondition,
		`{"error": {"desc": "The command guest-x has been disabled"}}`:                errdefs.IsFailedPrecondition,
	} {
		h.said["guest-set-user-password"], h.said["guest-ssh-get-authorized-keys"] = answer, answer
		if err := a.SetPassword(t.Context(), "guest", vm.GuestPassword{User: "u", Password: "sesame"}); !is(err) || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s: %v", answer, err)
		}
		if _, err := a.Keys(t.Context(), "guest", "u"); !is(err) {
			t.Errorf("%s: %v", answer, err)
		}
		if err := a.SetKeys(t.Context(), "guest", vm.KeysChange{User: "u", Mode: vm.KeysAdd}); !is(err) {
			t.Errorf("%s: %v", answer, err)
		}
	}
	h.said["guest-ssh-get-authorized-keys"] = `{"error": {"desc": "failed to read '/home/u/.ssh/authorized_keys': No such file or directory"}}`
	if got, err := a.Keys(t.Context(), "guest", "u"); err != nil || len(got) != 0 {
		t.Errorf("%q, %v", got, err)
	}
}
