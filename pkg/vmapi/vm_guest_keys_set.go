// SPDX-License-Identifier: Apache-2.0

package vmapi

import (
	"context"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/annotations"
	"github.com/vmlet/vmlet/pkg/vm"
	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

const (
	// maxAuthorizedKeys and maxAuthorizedBytes bound what is written at once.
	maxAuthorizedKeys  = 1000
	maxAuthorizedBytes = 256 << 10
)

// SetAuthorizedKeys changes the SSH keys of a user of a guest.
func (s *vmServer) SetAuthorizedKeys(ctx context.Context, req *vmletv1.SetAuthorizedKeysRequest) (*vmletv1.SetAuthorizedKeysResponse, error) {
	if err := checkVM(req.GetVm()); err != nil {
		return nil, err
	}
	if err := checkUser(req.GetUser()); err != nil {
		return nil, err
	}
	mode, known := keysModes[req.GetMode()]
	if !known {
		return nil, fmt.Errorf("mode: %s is neither REPLACE, ADD nor REMOVE: %w", req.GetMode(), errdefs.ErrInvalidArgument)
	}
	if err := checkKeys(req.GetKeys()); err != nil {
		return nil, err
	}
	change := vm.KeysChange{User: req.GetUser(), Keys: slices.Clone(req.GetKeys()), Mode: mode}
	if err := s.vms.SetAuthorizedKeys(ctx, req.GetVm(), change); err != nil {
		return nil, err
	}
	return &vmletv1.SetAuthorizedKeysResponse{}, nil
}

func checkKeys(keys []string) error {
	size := 0
	for i, key := range keys {
		if !annotations.IsPublicKey(key) {
			return fmt.Errorf("keys[%d]: it is no line with one public key, as in ~/.ssh/id_ed25519.pub: %w", i, errdefs.ErrInvalidArgument)
		}
		size += len(key) + 1
	}
	if len(keys) > maxAuthorizedKeys || size > maxAuthorizedBytes {
		return fmt.Errorf("keys: %d of %d bytes, at most %d of %d: %w", len(keys), size, maxAuthorizedKeys, maxAuthorizedBytes, errdefs.ErrInvalidArgument)
	}
	return nil
}
