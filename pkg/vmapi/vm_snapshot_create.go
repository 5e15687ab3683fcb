// SPDX-License-Identifier: Apache-2.0

package vmapi

import (
	"context"

	"github.com/vmlet/vmlet/pkg/vm"
	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// CreateSnapshot takes a snapshot of a VM.
func (s *vmServer) CreateSnapshot(ctx context.Context, req *vmletv1.CreateSnapshotRequest) (*vmletv1.CreateSnapshotResponse, error) {
	if err := checkSnapshot(req); err != nil {
		return nil, err
	}
	if err := checkLength("description", req.GetDescription(), longestDescription); err != nil {
		return nil, err
	}
	ask := vm.SnapshotRequest{
		Name: req.GetName(), Description: req.GetDescription(), Memory: req.GetMemory(), Quiesce: req.GetQuiesce(),
	}
	if req.GetDetach() {
		o, err := s.vms.DetachSnapshot(ctx, req.GetVm(), ask)
		if err != nil {
			return nil, err
		}
		return &vmletv1.CreateSnapshotResponse{Operation: operationOf(o)}, nil
	}
	info, err := s.vms.CreateSnapshot(ctx, req.GetVm(), ask)
	if err != nil {
		return nil, err
	}
	return &vmletv1.CreateSnapshotResponse{Snapshot: snapshotOf(info)}, nil
}
