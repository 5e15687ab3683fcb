// SPDX-License-Identifier: Apache-2.0

package vmapi

import (
	"context"

	"github.com/vmlet/vmlet/pkg/vm"
	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// PowerOn boots a VM that was powered off.
func (s *vmServer) PowerOn(ctx context.Context, req *vmletv1.PowerOnRequest) (*vmletv1.PowerOnResponse, error) {
	if err := checkVM(req.GetVm()); err != nil {
		return nil, err
	}
	if err := s.vms.PowerOn(ctx, req.GetVm(), vm.PowerOnRequest{Paused: req.GetPaused()}); err != nil {
		return nil, err
	}
	return &vmletv1.PowerOnResponse{}, nil
}
