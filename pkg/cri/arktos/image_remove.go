// SPDX-License-Identifier: Apache-2.0

package arktos

import (
	"context"
	"fmt"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	arktosv1alpha2 "github.com/vmlet/vmlet/proto/arktos/v1alpha2"
)

// RemoveImage removes an image with all its names. An absent one is NotFound, other than in runtime.v1: the node agent asks one
// runtime after the other until one says that it did it, and would leave the image with the runtime that has it.
func (s *Server) RemoveImage(ctx context.Context, req *arktosv1alpha2.RemoveImageRequest) (*arktosv1alpha2.RemoveImageResponse, error) {
	if ref := req.GetImage().GetImage(); ref != "" {
		if _, err := s.svc.Image(ctx, ref); err != nil {
			return nil, fmt.Errorf("remove image %s: %w", ref, err)
		}
	}
	return through(ctx, req, &runtimeapi.RemoveImageRequest{}, s.v1.RemoveImage, &arktosv1alpha2.RemoveImageResponse{})
}
