// SPDX-License-Identifier: Apache-2.0

package vmapi

import (
	"context"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// ListDisks lists the persistent disks.
func (s *diskServer) ListDisks(ctx context.Context, _ *vmletv1.ListDisksRequest) (*vmletv1.ListDisksResponse, error) {
	found, err := s.disks.Disks(ctx)
	if err != nil {
		return nil, err
	}
	resp := &vmletv1.ListDisksResponse{Disks: make([]*vmletv1.Disk, len(found))}
	for i, d := range found {
		resp.Disks[i] = disk(d)
	}
	return resp, nil
}
