// SPDX-License-Identifier: Apache-2.0

package vmapi

import (
	"context"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// CancelOperation ends an operation.
func (s *vmServer) CancelOperation(ctx context.Context, req *vmletv1.CancelOperationRequest) (*vmletv1.CancelOperationResponse, error) {
	if err := checkOperation(req.GetId()); err != nil {
		return nil, err
	}
	o, err := s.vms.CancelOperation(ctx, req.GetVm(), req.GetId())
	if err != nil {
		return nil, err
	}
	return &vmletv1.CancelOperationResponse{Operation: operationOf(o)}, nil
}
