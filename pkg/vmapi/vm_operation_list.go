// SPDX-License-Identifier: Apache-2.0

package vmapi

import (
	"context"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// ListOperations lists the operations of one VM or of all.
func (s *vmServer) ListOperations(_ context.Context, req *vmletv1.ListOperationsRequest) (*vmletv1.ListOperationsResponse, error) {
	all, err := s.vms.Operations(req.GetVm())
	if err != nil {
		return nil, err
	}
	out := &vmletv1.ListOperationsResponse{}
	for _, o := range all {
		out.Operations = append(out.Operations, operationOf(o))
	}
	return out, nil
}
