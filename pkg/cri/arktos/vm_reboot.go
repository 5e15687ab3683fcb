// SPDX-License-Identifier: Apache-2.0

package arktos

import (
	"context"
	"time"

	"github.com/vmlet/vmlet/pkg/vm"
	arktosv1alpha2 "github.com/vmlet/vmlet/proto/arktos/v1alpha2"
)

// rebootModes are the ways of virDomainRebootFlagValues that guests here know: by ACPI's power button, and by the agent.
var rebootModes = map[int64]vm.RebootMode{0: vm.RebootAny, 1: vm.RebootACPI, 2: vm.RebootAgent, 3: vm.RebootAny}

// longestDelay is the longest time that a reboot may be put off, as in vmlet.v1.
const longestDelay = 24 * time.Hour

// RebootVM has the guest boot anew and returns when that was seen. The reboot goes on when its caller's deadline is over.
func (s *Server) RebootVM(ctx context.Context, req *arktosv1alpha2.RebootVMRequest) (*arktosv1alpha2.RebootVMResponse, error) {
	if req.GetVmId() == "" {
		return nil, invalid("vm_id", "must not be empty: the ID of a container")
	}
	delay := req.GetRebootSpec().GetDelayInSeconds()
	if longest := int64(longestDelay / time.Second); delay < 0 || delay > longest {
		return nil, invalid("rebootSpec.delayInSeconds", "%d is not from 0 to %d, a day", delay, longest)
	}
	flag := req.GetRebootSpec().GetDomainRebootFlag()
	mode, known := rebootModes[flag]
	if !known {
		return nil, invalid("rebootSpec.domainRebootFlag", "%d asks for a way that guests here do not have; "+
			"0 is any, 1 ACPI (VIR_DOMAIN_REBOOT_ACPI_POWER_BTN), 2 the agent (VIR_DOMAIN_REBOOT_GUEST_AGENT), 3 either", flag)
	}
	if _, err := s.svc.Reboot(ctx, req.GetVmId(), vm.RebootRequest{Mode: mode, Delay: time.Duration(delay) * time.Second}); err != nil {
		return nil, err
	}
	return &arktosv1alpha2.RebootVMResponse{}, nil
}
