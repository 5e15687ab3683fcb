// SPDX-License-Identifier: Apache-2.0

package vmapi

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// RemoveDisk removes a persistent disk for good.
func (s *diskServer) RemoveDisk(ctx context.Context, req *vmletv1.RemoveDiskRequest) (*vmletv1.RemoveDiskResponse, error) {
	if req.GetName() == "" {
		return nil, fmt.Errorf("name: must not be empty: %w", errdefs.ErrInvalidArgument)
	}
	if err := s.disks.RemoveDisk(ctx, req.GetName()); err != nil {
		return nil, err
	}
	return &vmletv1.RemoveDiskResponse{}, nil
}
