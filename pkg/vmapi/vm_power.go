// SPDX-License-Identifier: Apache-2.0

package vmapi

import (
	"context"

	"github.com/vmlet/vmlet/pkg/vm"
	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// VMPower are the use cases of a VM's power.
type VMPower interface {
	PowerOff(ctx context.Context, ref string, req vm.PowerOffRequest) (vm.PoweredOff, error)
	PowerOn(ctx context.Context, ref string, req vm.PowerOnRequest) error
}

var (
	powerOffModes = map[vmletv1.PowerOffMode]vm.PowerOffMode{
		vmletv1.PowerOffMode_POWER_OFF_MODE_UNSPECIFIED:      vm.PowerOffGuest,
		vmletv1.PowerOffMode_POWER_OFF_MODE_GUEST:            vm.PowerOffGuest,
		vmletv1.PowerOffMode_POWER_OFF_MODE_GUEST_THEN_FORCE: vm.PowerOffGuestThenForce,
		vmletv1.PowerOffMode_POWER_OFF_MODE_FORCE:            vm.PowerOffForce,
	}
	powerOffPolicies = map[vm.PowerOffPolicy]vmletv1.PowerOffPolicy{
		vm.PowerOffHeld:  vmletv1.PowerOffPolicy_POWER_OFF_POLICY_HELD,
		vm.PowerOffExits: vmletv1.PowerOffPolicy_POWER_OFF_POLICY_EXITS,
	}
)
