// SPDX-License-Identifier: Apache-2.0

package vmapi

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// PowerOff ends a guest and keeps its VM.
func (s *vmServer) PowerOff(ctx context.Context, req *vmletv1.PowerOffRequest) (*vmletv1.PowerOffResponse, error) {
	if err := checkVM(req.GetVm()); err != nil {
		return nil, err
	}
	mode, known := powerOffModes[req.GetMode()]
	if !known {
		return nil, fmt.Errorf("mode: %s is not known: %w", req.GetMode(), errdefs.ErrInvalidArgument)
	}
	wait, err := millis("wait_ms", req.GetWaitMs())
	if err != nil {
		return nil, err
	}
	did, err := s.vms.PowerOff(ctx, req.GetVm(), vm.PowerOffRequest{Mode: mode, Wait: wait})
	if err != nil {
		return nil, err
	}
	return &vmletv1.PowerOffResponse{Policy: powerOffPolicies[did.Policy], Forced: did.Forced}, nil
}
