// SPDX-License-Identifier: Apache-2.0

package vmapi

import (
	"context"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// ResizeDisk makes a disk of a VM bigger.
func (s *vmServer) ResizeDisk(ctx context.Context, req *vmletv1.ResizeDiskRequest) (*vmletv1.ResizeDiskResponse, error) {
	if err := checkVM(req.GetVm()); err != nil {
		return nil, err
	}
	if err := checkDiskName(req.GetName()); err != nil {
		return nil, err
	}
	did, err := s.vms.ResizeDisk(ctx, req.GetVm(), req.GetName(), req.GetSizeBytes(), req.GetGrowFileSystem())
	if err != nil {
		return nil, err
	}
	return &vmletv1.ResizeDiskResponse{
		SizeBytesBefore: did.Before, SizeBytes: did.Size, FileSystem: growths[did.FileSystem], FileSystemDetail: did.Detail,
	}, nil
}
