// SPDX-License-Identifier: Apache-2.0

package vmapi

import (
	"context"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// DetachNIC takes a NIC from a VM.
func (s *vmServer) DetachNIC(ctx context.Context, req *vmletv1.DetachNICRequest) (*vmletv1.DetachNICResponse, error) {
	if err := checkNIC(req); err != nil {
		return nil, err
	}
	wait, err := millis("wait_ms", req.GetWaitMs())
	if err != nil {
		return nil, err
	}
	if err := s.vms.DetachNIC(ctx, req.GetVm(), req.GetName(), wait); err != nil {
		return nil, err
	}
	return &vmletv1.DetachNICResponse{}, nil
}
