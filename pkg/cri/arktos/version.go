// SPDX-License-Identifier: Apache-2.0

package arktos

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	arktosv1alpha2 "github.com/vmlet/vmlet/proto/arktos/v1alpha2"
)

// apiVersion is what the node agent's client is of.
const apiVersion = "0.1.0"

// Version tells who answers. The node agent demands that version is what it sent and that no field is empty.
func (s *Server) Version(ctx context.Context, req *arktosv1alpha2.VersionRequest) (*arktosv1alpha2.VersionResponse, error) {
	resp, err := through(ctx, req, &runtimeapi.VersionRequest{}, s.v1.Version, &arktosv1alpha2.VersionResponse{})
	if err != nil {
		return nil, err
	}
	resp.Version, resp.RuntimeApiVersion = apiVersion, apiVersion
	return resp, nil
}
