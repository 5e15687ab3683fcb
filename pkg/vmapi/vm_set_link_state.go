// SPDX-License-Identifier: Apache-2.0

package vmapi

import (
	"context"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// SetLinkState gives the guest the carrier of a NIC, or takes it.
func (s *vmServer) SetLinkState(ctx context.Context, req *vmletv1.SetLinkStateRequest) (*vmletv1.SetLinkStateResponse, error) {
	if err := checkNIC(req); err != nil {
		return nil, err
	}
	v, err := s.vms.SetLinkState(ctx, req.GetVm(), req.GetName(), req.GetUp())
	if err != nil {
		return nil, err
	}
	return &vmletv1.SetLinkStateResponse{Nic: nic(v)}, nil
}
