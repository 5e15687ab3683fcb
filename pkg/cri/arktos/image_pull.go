// SPDX-License-Identifier: Apache-2.0

package arktos

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	arktosv1alpha2 "github.com/vmlet/vmlet/proto/arktos/v1alpha2"
)

// PullImage is runtime.v1's, which has no use for the sandbox's configuration: that may hold what is no text.
func (s *Server) PullImage(ctx context.Context, req *arktosv1alpha2.PullImageRequest) (*arktosv1alpha2.PullImageResponse, error) {
	plain := &arktosv1alpha2.PullImageRequest{Image: req.GetImage(), Auth: req.GetAuth()}
	return through(ctx, plain, &runtimeapi.PullImageRequest{}, s.v1.PullImage, &arktosv1alpha2.PullImageResponse{})
}
