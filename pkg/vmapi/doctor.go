// SPDX-License-Identifier: Apache-2.0

package vmapi

import (
	"context"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// Doctor makes all checks of the host now. A check that fails is a finding, not an error.
func (s *nodeServer) Doctor(ctx context.Context, _ *vmletv1.DoctorRequest) (*vmletv1.DoctorResponse, error) {
	found := s.doctor.Run(ctx)
	if err := ctx.Err(); err != nil {
		return nil, err // what the checks found is that they were broken off
	}
	resp := &vmletv1.DoctorResponse{Checks: make([]*vmletv1.Check, len(found))}
	for i, c := range found {
		resp.Checks[i] = check(c)
	}
	return resp, nil
}
