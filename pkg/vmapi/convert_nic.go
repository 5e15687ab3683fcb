// SPDX-License-Identifier: Apache-2.0

package vmapi

import (
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

var (
	nicStates = map[vm.NICState]vmletv1.NICState{
		vm.NICAttaching: vmletv1.NICState_NIC_STATE_ATTACHING,
		vm.NICAttached:  vmletv1.NICState_NIC_STATE_ATTACHED,
		vm.NICDetaching: vmletv1.NICState_NIC_STATE_DETACHING,
	}
	nicGuests = map[vm.NICGuest]vmletv1.NICGuestState{
		vm.NICGuestConfigured: vmletv1.NICGuestState_NIC_GUEST_STATE_CONFIGURED,
		vm.NICGuestNoAgent:    vmletv1.NICGuestState_NIC_GUEST_STATE_NO_AGENT,
		vm.NICGuestFailed:     vmletv1.NICGuestState_NIC_GUEST_STATE_FAILED,
		vm.NICGuestNotRunning: vmletv1.NICGuestState_NIC_GUEST_STATE_NOT_RUNNING,
	}
)

// checkNIC refuses a request that names no VM, or no NIC of it.
func checkNIC(req interface {
	GetVm() string
	GetName() string
},
) error {
	if err := checkVM(req.GetVm()); err != nil {
		return err
	}
	if req.GetName() == "" {
		return fmt.Errorf("name: must not be empty: the name of a NIC, such as eth1: %w", errdefs.ErrInvalidArgument)
	}
	return nil
}

func nic(v vm.NICView) *vmletv1.NIC {
	out := &vmletv1.NIC{
		Name: v.Name, Primary: v.Primary, State: nicStates[v.State], Mac: v.MAC, Mtu: uint32(max(v.MTU, 0)),
		LinkUp: !v.Down, Plugged: v.Plugged, Network: v.Spec.Network,
		PortId: v.Spec.PortID, Subnet: v.Spec.Subnet, Vpc: v.Spec.VPC, Tag: v.Spec.Tag,
	}
	for _, ip := range v.IPs {
		out.Ips = append(out.Ips, ip.Prefix.String())
	}
	if !v.AttachedAt.IsZero() {
		out.AttachedAt = v.AttachedAt.UnixNano()
	}
	return out
}
