// SPDX-License-Identifier: Apache-2.0

package vmapi

import (
	"context"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// ListNICs lists the NICs of a VM.
func (s *vmServer) ListNICs(_ context.Context, req *vmletv1.ListNICsRequest) (*vmletv1.ListNICsResponse, error) {
	if err := checkVM(req.GetVm()); err != nil {
		return nil, err
	}
	all, err := s.vms.NICs(req.GetVm())
	if err != nil {
		return nil, err
	}
	resp := &vmletv1.ListNICsResponse{}
	for _, n := range all {
		resp.Nics = append(resp.Nics, nic(n))
	}
	return resp, nil
}
