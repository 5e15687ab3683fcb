// SPDX-License-Identifier: Apache-2.0

package vmapi

import (
	"context"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// ListVMDisks lists the disks of a VM.
func (s *vmServer) ListVMDisks(ctx context.Context, req *vmletv1.ListVMDisksRequest) (*vmletv1.ListVMDisksResponse, error) {
	if err := checkVM(req.GetVm()); err != nil {
		return nil, err
	}
	found, err := s.vms.VMDisks(ctx, req.GetVm())
	if err != nil {
		return nil, err
	}
	resp := &vmletv1.ListVMDisksResponse{}
	for _, d := range found {
		resp.Disks = append(resp.Disks, vmDisk(d))
	}
	return resp, nil
}
