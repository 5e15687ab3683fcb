// SPDX-License-Identifier: Apache-2.0

package vmapi

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/lifecycle"
	"github.com/vmlet/vmlet/pkg/vm"
	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// DetachDisk takes a disk from a VM.
func (s *vmServer) DetachDisk(ctx context.Context, req *vmletv1.DetachDiskRequest) (*vmletv1.DetachDiskResponse, error) {
	if err := checkVM(req.GetVm()); err != nil {
		return nil, err
	}
	if err := checkDiskName(req.GetName()); err != nil {
		return nil, err
	}
	wait, err := millis("wait_ms", req.GetWaitMs())
	if err == nil && wait > lifecycle.MaxDetachWait {
		err = fmt.Errorf("wait_ms: %d is more than %d: %w", req.GetWaitMs(), lifecycle.MaxDetachWait.Milliseconds(), errdefs.ErrInvalidArgument)
	}
	if err != nil {
		return nil, err
	}
	if err := s.vms.DetachDisk(ctx, req.GetVm(), req.GetName(), vm.DetachRequest{Delete: req.GetDelete(), Wait: wait}); err != nil {
		return nil, err
	}
	return &vmletv1.DetachDiskResponse{}, nil
}
