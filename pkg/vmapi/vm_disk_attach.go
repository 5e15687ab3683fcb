// SPDX-License-Identifier: Apache-2.0

package vmapi

import (
	"context"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// AttachDisk gives a VM a disk.
func (s *vmServer) AttachDisk(ctx context.Context, req *vmletv1.AttachDiskRequest) (*vmletv1.AttachDiskResponse, error) {
	if err := checkVM(req.GetVm()); err != nil {
		return nil, err
	}
	spec, err := dataDiskSpec(req)
	if err != nil {
		return nil, err
	}
	d, err := s.vms.AttachDisk(ctx, req.GetVm(), req.GetName(), spec)
	if err != nil {
		return nil, err
	}
	return &vmletv1.AttachDiskResponse{Serial: d.Serial, Target: d.Target, SizeBytes: d.Size}, nil
}
