// SPDX-License-Identifier: Apache-2.0

package vmapi

import (
	"context"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// GetAuthorizedKeys lists the SSH keys of a user of a guest.
func (s *vmServer) GetAuthorizedKeys(ctx context.Context, req *vmletv1.GetAuthorizedKeysRequest) (*vmletv1.GetAuthorizedKeysResponse, error) {
	if err := checkVM(req.GetVm()); err != nil {
		return nil, err
	}
	if err := checkUser(req.GetUser()); err != nil {
		return nil, err
	}
	keys, err := s.vms.AuthorizedKeys(ctx, req.GetVm(), req.GetUser())
	if err != nil {
		return nil, err
	}
	return &vmletv1.GetAuthorizedKeysResponse{Keys: keys}, nil
}
