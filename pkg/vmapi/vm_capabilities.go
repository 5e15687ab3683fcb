// SPDX-License-Identifier: Apache-2.0

package vmapi

import (
	"context"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// Capabilities tells what can be done, and why not.
func (s *vmServer) Capabilities(_ context.Context, req *vmletv1.CapabilitiesRequest) (*vmletv1.CapabilitiesResponse, error) {
	all, err := s.vms.Capabilities(req.GetVm())
	if err != nil {
		return nil, err
	}
	resp := &vmletv1.CapabilitiesResponse{}
	for _, c := range all {
		resp.Capabilities = append(resp.Capabilities, &vmletv1.Capability{Name: c.Name, Available: c.Available, WhyNot: c.WhyNot})
	}
	return resp, nil
}
