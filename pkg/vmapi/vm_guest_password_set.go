// SPDX-License-Identifier: Apache-2.0

package vmapi

import (
	"context"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// maxPassword is the most bytes of a password, or of its hash.
const maxPassword = 1 << 10

// SetGuestPassword gives a user of a guest another password.
func (s *vmServer) SetGuestPassword(ctx context.Context, req *vmletv1.SetGuestPasswordRequest) (*vmletv1.SetGuestPasswordResponse, error) {
	if err := checkVM(req.GetVm()); err != nil {
		return nil, err
	}
	if err := checkUser(req.GetUser()); err != nil {
		return nil, err
	}
	// The errors do not repeat it.
	switch password := req.GetPassword(); {
	case password == "" || len(password) > maxPassword || strings.ContainsAny(password, "\r\n\x00"):
		return nil, fmt.Errorf("password: it must be one line of 1 to %d bytes: %w", maxPassword, errdefs.ErrInvalidArgument)
	case req.GetCrypted() && strings.Contains(password, ":"):
		return nil, fmt.Errorf("password: a hash of crypt(3) has no colon in it: %w", errdefs.ErrInvalidArgument)
	}
	p := vm.GuestPassword{User: req.GetUser(), Password: req.GetPassword(), Crypted: req.GetCrypted()}
	if err := s.vms.SetGuestPassword(ctx, req.GetVm(), p); err != nil {
		return nil, err
	}
	return &vmletv1.SetGuestPasswordResponse{}, nil
}
