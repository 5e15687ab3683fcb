// SPDX-License-Identifier: Apache-2.0

package vmapi

import (
	"context"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// Resume lets a paused VM go on.
func (s *vmServer) Resume(ctx context.Context, req *vmletv1.ResumeRequest) (*vmletv1.ResumeResponse, error) {
	if err := checkVM(req.GetVm()); err != nil {
		return nil, err
	}
	if err := s.vms.Resume(ctx, req.GetVm()); err != nil {
		return nil, err
	}
	return &vmletv1.ResumeResponse{}, nil
}
