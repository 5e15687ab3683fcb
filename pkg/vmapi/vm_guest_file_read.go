// SPDX-License-Identifier: Apache-2.0

package vmapi

import (
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc"

	"github.com/vmlet/vmlet/pkg/vm"
	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// ReadGuestFile sends a part of a file of a guest, as fast as the client takes it.
func (s *vmServer) ReadGuestFile(req *vmletv1.ReadGuestFileRequest, stream grpc.ServerStreamingServer[vmletv1.ReadGuestFileResponse]) error {
	if err := checkVM(req.GetVm()); err != nil {
		return err
	}
	if err := checkGuestPath(req.GetPath()); err != nil {
		return err
	}
	if req.GetOffsetBytes() < 0 || req.GetLimitBytes() < 0 {
		return fmt.Errorf("offset_bytes, limit_bytes: %d, %d must not be negative: %w", req.GetOffsetBytes(), req.GetLimitBytes(), errdefs.ErrInvalidArgument)
	}
	part := vm.ReadGuestFile{Path: req.GetPath(), Offset: req.GetOffsetBytes(), Limit: req.GetLimitBytes()}
	return s.vms.ReadGuestFile(stream.Context(), req.GetVm(), part, func(f vm.GuestFile) (io.Writer, error) {
		return fileWriter(stream.Send), stream.Send(&vmletv1.ReadGuestFileResponse{Part: &vmletv1.ReadGuestFileResponse_File{
			File: &vmletv1.GuestFile{SizeBytes: f.Size, Mode: f.Mode, Uid: f.UID, Gid: f.GID, ModifiedUnixNs: f.Modified.UnixNano()},
		}})
	})
}

// fileWriter sends what is written as chunks.
type fileWriter func(*vmletv1.ReadGuestFileResponse) error

// Write implements io.Writer.
func (w fileWriter) Write(p []byte) (int, error) {
	if err := w(&vmletv1.ReadGuestFileResponse{Part: &vmletv1.ReadGuestFileResponse_Chunk{Chunk: p}}); err != nil {
		return 0, err
	}
	return len(p), nil
}
