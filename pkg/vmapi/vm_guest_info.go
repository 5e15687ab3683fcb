// SPDX-License-Identifier: Apache-2.0

package vmapi

import (
	"context"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// GuestInfo tells what a guest says of itself.
func (s *vmServer) GuestInfo(ctx context.Context, req *vmletv1.GuestInfoRequest) (*vmletv1.GuestInfoResponse, error) {
	if err := checkVM(req.GetVm()); err != nil {
		return nil, err
	}
	info, err := s.vms.GuestInfo(ctx, req.GetVm())
	if err != nil {
		return nil, err
	}
	return guestInfo(info), nil
}
