// SPDX-License-Identifier: Apache-2.0

package vmapi

import (
	"context"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// GetOperation returns one operation.
func (s *vmServer) GetOperation(_ context.Context, req *vmletv1.GetOperationRequest) (*vmletv1.GetOperationResponse, error) {
	if err := checkOperation(req.GetId()); err != nil {
		return nil, err
	}
	o, err := s.vms.Operation(req.GetVm(), req.GetId())
	if err != nil {
		return nil, err
	}
	return &vmletv1.GetOperationResponse{Operation: operationOf(o)}, nil
}
