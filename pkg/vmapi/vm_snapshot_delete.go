// SPDX-License-Identifier: Apache-2.0

package vmapi

import (
	"context"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// DeleteSnapshot deletes a snapshot of a VM.
func (s *vmServer) DeleteSnapshot(ctx context.Context, req *vmletv1.DeleteSnapshotRequest) (*vmletv1.DeleteSnapshotResponse, error) {
	if err := checkSnapshot(req); err != nil {
		return nil, err
	}
	if req.GetDetach() {
		o, err := s.vms.DetachDeleteSnapshot(ctx, req.GetVm(), req.GetName())
		if err != nil {
			return nil, err
		}
		return &vmletv1.DeleteSnapshotResponse{Operation: operationOf(o)}, nil
	}
	if err := s.vms.DeleteSnapshot(ctx, req.GetVm(), req.GetName()); err != nil {
		return nil, err
	}
	return &vmletv1.DeleteSnapshotResponse{}, nil
}
