// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// inside is what the guests of a node have in them.
type inside struct {
	file     string
	keys     []string
	password string
}

func (vms) GuestInfo(_ context.Context, req *vmletv1.GuestInfoRequest) (*vmletv1.GuestInfoResponse, error) {
	if req.GetVm() == dbID {
		return &vmletv1.GuestInfoResponse{
			Agent: vmletv1.GuestAgent_GUEST_AGENT_QEMU, Hostname: "db", UnknownFields: []string{"os", "boot_id"},
		}, nil
	}
	return &vmletv1.GuestInfoResponse{
		Agent: vmletv1.GuestAgent_GUEST_AGENT_VMLET, AgentVersion: "1.2.3",
		Os: &vmletv1.GuestOS{
			Id: "debian", Version: "12", PrettyName: "Debian GNU/Linux 12 (bookworm)", KernelRelease: "6.1.0-13-amd64", Machine: "x86_64",
		},
		Hostname: "web", BootId: "5c1fd593-3732-475e-8b0f-33e02ddd7be1", UptimeMs: 3723400, ClockUnixNs: clock.UnixNano(),
		Users: []*vmletv1.GuestUser{
			{Name: "debian", Terminal: "pts/0", Host: "10.88.0.1", LoginUnixNs: clock.UnixNano()}, {Name: "root", Terminal: "ttyS0", LoginUnixNs: clock.UnixNano()},
		},
		Filesystems: []*vmletv1.GuestFilesystem{
			{Device: "/dev/vda1", MountPoint: "/", Type: "ext4", TotalBytes: 2 << 30, UsedBytes: 1 << 30},
			{Device: "/dev/vda15", MountPoint: "/boot/efi", Type: "vfat", TotalBytes: 124 << 20, UsedBytes: 12 << 20},
		},
		Interfaces: []*vmletv1.GuestInterface{
			{Name: "lo", Addresses: []string{"127.0.0.1/8", "::1/128"}}, {Name: "eth0", Mac: "02:00:00:00:00:01", Addresses: []string{"10.88.0.5/24"}},
		},
	}, nil
}

func (v vms) ReadGuestFile(req *vmletv1.ReadGuestFileRequest, stream grpc.ServerStreamingServer[vmletv1.ReadGuestFileResponse]) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.note("ReadGuestFile %s %s %d %d", req.GetVm(), req.GetPath(), req.GetOffsetBytes(), req.GetLimitBytes())
	msgs := []*vmletv1.ReadGuestFileResponse{
		{Part: &vmletv1.ReadGuestFileResponse_File{File: &vmletv1.GuestFile{SizeBytes: 8}}},
		{Part: &vmletv1.ReadGuestFileResponse_Chunk{Chunk: []byte("con")}},
	}
	for _, msg := range msgs {
		if err := stream.Send(msg); err != nil {
			return err
		}
	}
	if req.GetPath() == "/broken" {
		return status.Error(codes.Unavailable, "the file did not come whole")
	}
	return stream.Send(&vmletv1.ReadGuestFileResponse{Part: &vmletv1.ReadGuestFileResponse_Chunk{Chunk: []byte("tent\n")}})
}

func (v vms) WriteGuestFile(stream grpc.ClientStreamingServer[vmletv1.WriteGuestFileRequest, vmletv1.WriteGuestFileResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if first.GetPath() == "/there" {
		return status.Error(codes.AlreadyExists, "/there is there already")
	}
	var content []byte
	for {
		msg, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		content = append(content, msg.GetChunk()...)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.note("WriteGuestFile %s %s %#o %d:%d overwrite=%v parents=%v", first.GetVm(), first.GetPath(), first.GetMode(), first.GetUid(), first.GetGid(), first.GetOverwrite(), first.GetParents())
	v.inside.file = string(content)
	return stream.SendAndClose(&vmletv1.WriteGuestFileResponse{SizeBytes: int64(len(content))})
}

func (v vms) GetAuthorizedKeys(_ context.Context, req *vmletv1.GetAuthorizedKeysRequest) (*vmletv1.GetAuthorizedKeysResponse, error) {
	if req.GetUser() == "nobody" {
		return nil, status.Error(codes.Unimplemented, "authorized keys need a newer agent")
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return &vmletv1.GetAuthorizedKeysResponse{Keys: v.inside.keys}, nil
}

func (v vms) SetAuthorizedKeys(_ context.Context, req *vmletv1.SetAuthorizedKeysRequest) (*vmletv1.SetAuthorizedKeysResponse, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.note("SetAuthorizedKeys %s %s %s %q", req.GetVm(), req.GetUser(), req.GetMode(), req.GetKeys())
	v.inside.keys = req.GetKeys()
	return &vmletv1.SetAuthorizedKeysResponse{}, nil
}

func (v vms) SetGuestPassword(_ context.Context, req *vmletv1.SetGuestPasswordRequest) (*vmletv1.SetGuestPasswordResponse, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.note("SetGuestPassword %s %s %v", req.GetVm(), req.GetUser(), req.GetCrypted())
	v.inside.password = req.GetPassword()
	return &vmletv1.SetGuestPasswordResponse{}, nil
}
