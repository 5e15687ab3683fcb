// SPDX-License-Identifier: Apache-2.0

package vmapi

import (
	"context"

	"github.com/vmlet/vmlet/pkg/vm"
	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// RestoreSnapshot puts a VM back to a snapshot.
func (s *vmServer) RestoreSnapshot(ctx context.Context, req *vmletv1.RestoreSnapshotRequest) (*vmletv1.RestoreSnapshotResponse, error) {
	if err := checkSnapshot(req); err != nil {
		return nil, err
	}
	ask := vm.RestoreRequest{Name: req.GetName(), Paused: req.GetPaused(), DiskOnly: req.GetDiskOnly()}
	if req.GetDetach() {
		o, err := s.vms.DetachRestoreSnapshot(ctx, req.GetVm(), ask)
		if err != nil {
			return nil, err
		}
		return &vmletv1.RestoreSnapshotResponse{Operation: operationOf(o)}, nil
	}
	if err := s.vms.RestoreSnapshot(ctx, req.GetVm(), ask); err != nil {
		return nil, err
	}
	return &vmletv1.RestoreSnapshotResponse{}, nil
}
