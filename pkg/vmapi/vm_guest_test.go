// SPDX-License-Identifier: Apache-2.0

package vmapi_test

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/vmlet/vmlet/pkg/vm"
	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// inside keeps what it is asked for of a guest.
type inside struct {
	info    vm.GuestInfo
	read    vm.ReadGuestFile
	written vm.WriteGuestFile
	content []byte
	// began gets one for each write, wrote its end; nil for nobody who wants to know.
	began    chan struct{}
	wrote    chan error
	keys     vm.KeysChange
	password vm.GuestPassword
}

func (v vms) GuestInfo(context.Context, string) (vm.GuestInfo, error) { return v.inside.info, nil }

func (v vms) ReadGuestFile(_ context.Context, _ string, req vm.ReadGuestFile, begin func(vm.GuestFile) (io.Writer, error)) error {
	v.inside.read = req
	w, err := begin(vm.GuestFile{Size: 6, Mode: 0o4755, UID: 1, GID: 2, Modified: time.Unix(0, 3)})
	if err != nil {
		return err
	}
	for _, piece := range []string{"abc", "def"} {
		if _, err := io.WriteString(w, piece); err != nil {
			return err
		}
	}
	return nil
}

func (v vms) WriteGuestFile(_ context.Context, _ string, f vm.WriteGuestFile, content io.Reader) (err error) {
	v.inside.written = f
	if v.inside.began != nil {
		v.inside.began <- struct{}{}
		defer func() { v.inside.wrote <- err }()
	}
	v.inside.content, err = io.ReadAll(content)
	return err
}

func (vms) AuthorizedKeys(_ context.Context, _, user string) ([]string, error) {
	return []string{"key of " + user}, nil
}

func (v vms) SetAuthorizedKeys(_ context.Context, _ string, c vm.KeysChange) error {
	v.inside.keys = c
	return nil
}

func (v vms) SetGuestPassword(_ context.Context, _ string, p vm.GuestPassword) error {
	v.inside.password = p
	return nil
}

func TestGuestInfoIsTold(t *testing.T) {
	client, v := vmClient(t)
	v.inside.info = vm.GuestInfo{
		Agent: vm.AgentQEMU, AgentVersion: "7.2", BootID: "b", Hostname: "h", Kernel: "6.1", OS: "A 1", OSID: "a", OSVersion: "1", Machine: "x86_64",
		Clock: time.Unix(5, 6), Uptime: 1500 * time.Millisecond,
		Logins:      []vm.GuestLogin{{User: "u", Terminal: "tty1", Host: "far", At: time.Unix(7, 0)}},
		Filesystems: []vm.GuestFilesystem{{Device: "/dev/vda2", MountPoint: "/", Type: "ext4", Total: 10, Used: 4}},
		Interfaces:  []vm.GuestInterface{{Name: "eth0", MAC: "02:00:00:00:00:01", Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")}}},
		Unknown: []vm.GuestFact{
			vm.FactAgentVersion, vm.FactOS, vm.FactHostname, vm.FactBootID, vm.FactUptime, vm.FactClock, vm.FactLogins, vm.FactFilesystems, vm.FactInterfaces,
		},
	}
	got, err := client.GuestInfo(t.Context(), &vmletv1.GuestInfoRequest{Vm: "a"})
	if err != nil {
		t.Fatal(err)
	}
	want := &vmletv1.GuestInfoResponse{
		Agent: vmletv1.GuestAgent_GUEST_AGENT_QEMU, AgentVersion: "7.2", BootId: "b", Hostname: "h",
		Os:       &vmletv1.GuestOS{Id: "a", Version: "1", PrettyName: "A 1", KernelRelease: "6.1", Machine: "x86_64"},
		UptimeMs: 1500, ClockUnixNs: 5e9 + 6,
		Users:       []*vmletv1.GuestUser{{Name: "u", Terminal: "tty1", Host: "far", LoginUnixNs: 7e9}},
		Filesystems: []*vmletv1.GuestFilesystem{{Device: "/dev/vda2", MountPoint: "/", Type: "ext4", TotalBytes: 10, UsedBytes: 4}},
		Interfaces:  []*vmletv1.GuestInterface{{Name: "eth0", Mac: "02:00:00:00:00:01", Addresses: []string{"10.0.0.1/24"}}},
		UnknownFields: []string{
			"agent_version", "os", "hostname", "boot_id", "uptime_ms", "clock_unix_ns", "users", "filesystems", "interfaces",
		},
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	for _, name := range got.GetUnknownFields() {
		if got.ProtoReflect().Descriptor().Fields().ByTextName(name) == nil {
			t.Errorf("there is no field %s", name)
		}
	}
}

func TestAFileIsToldAndThenSent(t *testing.T) {
	client, v := vmClient(t)
	stream, err := client.ReadGuestFile(t.Context(), &vmletv1.ReadGuestFileRequest{Vm: "a", Path: "/f", OffsetBytes: 4, LimitBytes: 5})
	if err != nil {
		t.Fatal(err)
	}
	first, err := stream.Recv()
	want := &vmletv1.GuestFile{SizeBytes: 6, Mode: 0o4755, Uid: 1, Gid: 2, ModifiedUnixNs: 3}
	if diff := cmp.Diff(want, first.GetFile(), protocmp.Transform()); err != nil || diff != "" {
		t.Errorf("%v: %s", err, diff)
	}
	var content []byte
	for {
		msg, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content = append(content, msg.GetChunk()...)
	}
	if string(content) != "abcdef" || v.inside.read != (vm.ReadGuestFile{Path: "/f", Offset: 4, Limit: 5}) {
		t.Errorf("%q of %+v", content, v.inside.read)
	}
	for _, req := range []*vmletv1.ReadGuestFileRequest{
		{Path: "/f"}, {Vm: "a"}, {Vm: "a", Path: "f"}, {Vm: "a", Path: "/a/../f"}, {Vm: "a", Path: "/f\x00"},
		{Vm: "a", Path: "/" + strings.Repeat("x", 4095)}, {Vm: "a", Path: "/f", OffsetBytes: -1}, {Vm: "a", Path: "/f", LimitBytes: -1},
	} {
		stream, err := client.ReadGuestFile(t.Context(), req)
		if err == nil {
			_, err = stream.Recv()
		}
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("%v: %v", req, err)
		}
	}
}

func send(t *testing.T, client vmletv1.VMServiceClient, msgs ...*vmletv1.WriteGuestFileRequest) (int64, error) {
	t.Helper()
	stream, err := client.WriteGuestFile(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, msg := range msgs {
		if err := stream.Send(msg); err != nil {
			break // the answer says why
		}
	}
	resp, err := stream.CloseAndRecv()
	return resp.GetSizeBytes(), err
}

func TestAFileIsTakenWhole(t *testing.T) {
	client, v := vmClient(t)
	n, err := send(t, client,
		&vmletv1.WriteGuestFileRequest{Vm: "a", Path: "/f", Mode: proto.Uint32(0), Uid: 1, Gid: 2, Overwrite: true, Parents: true, Chunk: []byte("ab")},
		&vmletv1.WriteGuestFileRequest{}, &vmletv1.WriteGuestFileRequest{Chunk: []byte("cd")})
	if err != nil || n != 4 || string(v.inside.content) != "abcd" {
		t.Errorf("%d, %v, %q", n, err, v.inside.content)
	}
	if v.inside.written != (vm.WriteGuestFile{Path: "/f", UID: 1, GID: 2, Overwrite: true, Parents: true}) {
		t.Errorf("%+v", v.inside.written)
	}
	if _, err := send(t, client, &vmletv1.WriteGuestFileRequest{Vm: "a", Path: "/f"}); err != nil || v.inside.written.Mode != 0o644 {
		t.Errorf("%v, %+v", err, v.inside.written)
	}
	first := &vmletv1.WriteGuestFileRequest{Vm: "a", Path: "/f"}
	for title, msgs := range map[string][]*vmletv1.WriteGuestFileRequest{
		"nothing":        nil,
		"no VM":          {{Path: "/f"}},
		"no path":        {{Vm: "a"}},
		"a mode":         {{Vm: "a", Path: "/f", Mode: proto.Uint32(0o10000)}},
		"an owner":       {{Vm: "a", Path: "/f", Uid: 1<<32 - 1}},
		"a second file":  {first, first},
		"a large chunk":  {first, {Chunk: make([]byte, 1<<20+1)}},
		"a large chunk1": {{Vm: "a", Path: "/f", Chunk: make([]byte, 1<<20+1)}},
	} {
		if _, err := send(t, client, msgs...); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", title, err)
		}
	}
}

// A client that goes away in the middle has not sent a file.
func TestAFileThatBreaksOffIsAnError(t *testing.T) {
	client, v := vmClient(t)
	v.inside.began, v.inside.wrote = make(chan struct{}, 1), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := client.WriteGuestFile(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&vmletv1.WriteGuestFileRequest{Vm: "a", Path: "/f", Chunk: []byte("half")}); err != nil {
		t.Fatal(err)
	}
	<-v.inside.began
	cancel()
	if err := <-v.inside.wrote; err == nil {
		t.Error("half a file was taken for a whole one")
	}
}

const aKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA a@host"

func TestKeysAreTold(t *testing.T) {
	client, v := vmClient(t)
	got, err := client.GetAuthorizedKeys(t.Context(), &vmletv1.GetAuthorizedKeysRequest{Vm: "a", User: "u"})
	if err != nil || len(got.GetKeys()) != 1 || got.GetKeys()[0] != "key of u" {
		t.Errorf("%v, %v", got, err)
	}
	for theirs, ours := range map[vmletv1.AuthorizedKeysMode]vm.KeysMode{
		vmletv1.AuthorizedKeysMode_AUTHORIZED_KEYS_MODE_REPLACE: vm.KeysReplace,
		vmletv1.AuthorizedKeysMode_AUTHORIZED_KEYS_MODE_ADD:     vm.KeysAdd,
		vmletv1.AuthorizedKeysMode_AUTHORIZED_KEYS_MODE_REMOVE:  vm.KeysRemove,
	} {
		if _, err := client.SetAuthorizedKeys(t.Context(), &vmletv1.SetAuthorizedKeysRequest{Vm: "a", User: "u", Keys: []string{aKey}, Mode: theirs}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(vm.KeysChange{User: "u", Keys: []string{aKey}, Mode: ours}, v.inside.keys); diff != "" {
			t.Error(diff)
		}
	}
	const add = vmletv1.AuthorizedKeysMode_AUTHORIZED_KEYS_MODE_ADD
	for _, req := range []*vmletv1.SetAuthorizedKeysRequest{
		{User: "u", Mode: add}, {Vm: "a", Mode: add}, {Vm: "a", User: "u"}, {Vm: "a", User: "u", Mode: 9}, {Vm: "a", User: "../u", Mode: add},
		{Vm: "a", User: "-u", Mode: add}, {Vm: "a", User: "u", Mode: add, Keys: []string{"no key"}},
		{Vm: "a", User: "u", Mode: add, Keys: []string{aKey + "\n" + aKey}}, {Vm: "a", User: "u", Mode: add, Keys: make([]string, 1001)},
	} {
		if _, err := client.SetAuthorizedKeys(t.Context(), req); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%v: %v", req, err)
		}
	}
	if _, err := client.GetAuthorizedKeys(t.Context(), &vmletv1.GetAuthorizedKeysRequest{Vm: "a"}); status.Code(err) != codes.InvalidArgument {
		t.Error(err)
	}
}

// What is wrong with a password is said without it.
func TestAPasswordIsPassedOnAndNotRepeated(t *testing.T) {
	client, v := vmClient(t)
	if _, err := client.SetGuestPassword(t.Context(), &vmletv1.SetGuestPasswordRequest{Vm: "a", User: "u", Password: "sesame", Crypted: true}); err != nil {
		t.Fatal(err)
	}
	if v.inside.password != (vm.GuestPassword{User: "u", Password: "sesame", Crypted: true}) {
		t.Error("it is another one")
	}
	for _, req := range []*vmletv1.SetGuestPasswordRequest{
		{User: "u", Password: "sesame"}, {Vm: "a", Password: "sesame"}, {Vm: "a", User: "u"}, {Vm: "a", User: "u", Password: "sesame\nroot:x"},
		{Vm: "a", User: "u:sesame", Password: "x"}, {Vm: "a", User: "u", Password: "sesame:x", Crypted: true},
		{Vm: "a", User: "u", Password: strings.Repeat("sesame", 200)},
	} {
		_, err := client.SetGuestPassword(t.Context(), req)
		if status.Code(err) != codes.InvalidArgument || req.GetPassword() != "" && strings.Contains(err.Error(), req.GetPassword()) {
			t.Errorf("got %v", err)
		}
	}
}
