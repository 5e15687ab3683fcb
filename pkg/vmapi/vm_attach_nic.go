// SPDX-License-Identifier: Apache-2.0

package vmapi

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// maxCNIConfig bounds a CNI configuration: it is kept with the NIC.
const maxCNIConfig = 64 << 10

// AttachNIC gives a VM another NIC.
func (s *vmServer) AttachNIC(ctx context.Context, req *vmletv1.AttachNICRequest) (*vmletv1.AttachNICResponse, error) {
	if err := checkNIC(req); err != nil {
		return nil, err
	}
	if req.GetCniConfig() != "" && req.GetNetwork() != "" {
		return nil, fmt.Errorf("network and cni_config: give one of them: %w", errdefs.ErrInvalidArgument)
	}
	if n := len(req.GetCniConfig()); n > maxCNIConfig {
		return nil, fmt.Errorf("cni_config: it has %d bytes, and at most %d are taken: %w", n, maxCNIConfig, errdefs.ErrInvalidArgument)
	}
	did, err := s.vms.AttachNIC(ctx, req.GetVm(), vm.NICSpec{
		Name: req.GetName(), Network: req.GetNetwork(), MAC: req.GetMac(), IPs: req.GetIps(),
		PortID: req.GetPortId(), Subnet: req.GetSubnet(), VPC: req.GetVpc(), Tag: req.GetTag(), Args: req.GetCniArgs(),
	}, []byte(req.GetCniConfig()))
	if err != nil {
		return nil, err
	}
	return &vmletv1.AttachNICResponse{Nic: nic(did.NIC), Guest: nicGuests[did.Guest], GuestMessage: did.Message}, nil
}
