// SPDX-License-Identifier: Apache-2.0

package vmapi

import (
	"context"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// Screenshot is a picture of a VM's screen.
func (s *vmServer) Screenshot(ctx context.Context, req *vmletv1.ScreenshotRequest) (*vmletv1.ScreenshotResponse, error) {
	if err := checkVM(req.GetVm()); err != nil {
		return nil, err
	}
	picture, err := s.vms.Screenshot(ctx, req.GetVm())
	if err != nil {
		return nil, err
	}
	return &vmletv1.ScreenshotResponse{Png: picture.PNG, Width: int32(picture.Width), Height: int32(picture.Height)}, nil
}
