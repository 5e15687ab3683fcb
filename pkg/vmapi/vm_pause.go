// SPDX-License-Identifier: Apache-2.0

package vmapi

import (
	"context"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// Pause halts a VM's CPUs.
func (s *vmServer) Pause(ctx context.Context, req *vmletv1.PauseRequest) (*vmletv1.PauseResponse, error) {
	if err := checkVM(req.GetVm()); err != nil {
		return nil, err
	}
	if err := s.vms.Pause(ctx, req.GetVm()); err != nil {
		return nil, err
	}
	return &vmletv1.PauseResponse{}, nil
}
