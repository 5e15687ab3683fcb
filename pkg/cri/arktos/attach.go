// SPDX-License-Identifier: Apache-2.0

package arktos

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	arktosv1alpha2 "github.com/vmlet/vmlet/proto/arktos/v1alpha2"
)

// Attach is runtime.v1's, but that a request for neither stdout nor stderr means stdout, as it did to Arktos's own runtime.
func (s *Server) Attach(ctx context.Context, req *arktosv1alpha2.AttachRequest) (*arktosv1alpha2.AttachResponse, error) {
	want, err := translate(req, &runtimeapi.AttachRequest{})
	if err != nil {
		return nil, err
	}
	want.Stdout = want.GetStdout() || !want.GetStderr()
	resp, err := s.v1.Attach(ctx, want)
	if err != nil {
		return nil, err
	}
	return &arktosv1alpha2.AttachResponse{Url: resp.GetUrl()}, nil
}
