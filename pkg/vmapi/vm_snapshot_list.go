// SPDX-License-Identifier: Apache-2.0

package vmapi

import (
	"context"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// ListSnapshots lists the snapshots of a VM.
func (s *vmServer) ListSnapshots(ctx context.Context, req *vmletv1.ListSnapshotsRequest) (*vmletv1.ListSnapshotsResponse, error) {
	if err := checkVM(req.GetVm()); err != nil {
		return nil, err
	}
	infos, err := s.vms.Snapshots(ctx, req.GetVm())
	if err != nil {
		return nil, err
	}
	out := &vmletv1.ListSnapshotsResponse{}
	for _, info := range infos {
		out.Snapshots = append(out.Snapshots, snapshotOf(info))
	}
	return out, nil
}
