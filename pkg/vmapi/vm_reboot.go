// SPDX-License-Identifier: Apache-2.0

package vmapi

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// longest is the longest time that a reboot may be put off, or waited for.
const longest = 24 * time.Hour

// Reboot has a guest boot anew.
func (s *vmServer) Reboot(ctx context.Context, req *vmletv1.RebootRequest) (*vmletv1.RebootResponse, error) {
	if err := checkVM(req.GetVm()); err != nil {
		return nil, err
	}
	mode, known := rebootModes[req.GetMode()]
	if !known {
		return nil, fmt.Errorf("mode: %s is not known: %w", req.GetMode(), errdefs.ErrInvalidArgument)
	}
	delay, err := millis("delay_ms", req.GetDelayMs())
	if err != nil {
		return nil, err
	}
	wait, err := millis("wait_ms", req.GetWaitMs())
	if err != nil {
		return nil, err
	}
	did, err := s.vms.Reboot(ctx, req.GetVm(), vm.RebootRequest{Mode: mode, Delay: delay, Wait: wait})
	if err != nil {
		return nil, err
	}
	return &vmletv1.RebootResponse{Mode: rebootModeOf(did.Mode), BootIdBefore: did.Was, BootId: did.Boot}, nil
}

func millis(field string, n int64) (time.Duration, error) {
	if n < 0 || n > longest.Milliseconds() {
		return 0, fmt.Errorf("%s: %d is not from 0 to %d, a day: %w", field, n, longest.Milliseconds(), errdefs.ErrInvalidArgument)
	}
	return time.Duration(n) * time.Millisecond, nil
}
