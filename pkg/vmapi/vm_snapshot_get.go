// SPDX-License-Identifier: Apache-2.0

package vmapi

import (
	"context"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// GetSnapshot returns one snapshot of a VM.
func (s *vmServer) GetSnapshot(ctx context.Context, req *vmletv1.GetSnapshotRequest) (*vmletv1.GetSnapshotResponse, error) {
	if err := checkSnapshot(req); err != nil {
		return nil, err
	}
	info, err := s.vms.Snapshot(ctx, req.GetVm(), req.GetName())
	if err != nil {
		return nil, err
	}
	return &vmletv1.GetSnapshotResponse{Snapshot: snapshotOf(info)}, nil
}
