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

// longestResize is how long a guest is waited for at most.
const longestResize = 2 * time.Minute

// VMSizes are the use cases of a VM's size.
type VMSizes interface {
	Resize(ctx context.Context, ref string, req vm.ResizeRequest) (vm.Resized, error)
}

// Resize gives a VM another size.
func (s *vmServer) Resize(ctx context.Context, req *vmletv1.ResizeRequest) (*vmletv1.ResizeResponse, error) {
	if err := checkVM(req.GetVm()); err != nil {
		return nil, err
	}
	if n := req.GetWaitMs(); n < 0 || n > longestResize.Milliseconds() {
		return nil, fmt.Errorf("wait_ms: %d is not from 0 to %d, two minutes: %w", n, longestResize.Milliseconds(), errdefs.ErrInvalidArgument)
	}
	did, err := s.vms.Resize(ctx, req.GetVm(), vm.ResizeRequest{
		SizeAsk: vm.SizeAsk{
			VCPUs: int(req.GetCpus()), Memory: req.GetMemoryBytes(),
			CpusetCPUs: req.GetCpusetCpus(), CpusetMems: req.GetCpusetMems(), CPUShares: req.GetCpuShares(),
		},
		Wait: time.Duration(req.GetWaitMs()) * time.Millisecond,
	})
	if err != nil {
		return nil, err
	}
	return &vmletv1.ResizeResponse{
		Cpus: resizedNumber(did.CPUs), GuestCpus: uint32(did.GuestCPUs), MemoryBytes: resizedNumber(did.Memory),
		CpusetCpus: resizedSet(did.CpusetCPUs), CpusetMems: resizedSet(did.CpusetMems), CpuShares: resizedNumber(did.CPUShares),
	}, nil
}

var resizeOutcomes = map[vm.ResizeOutcome]vmletv1.ResizeOutcome{
	vm.ResizeApplied:     vmletv1.ResizeOutcome_RESIZE_OUTCOME_APPLIED,
	vm.ResizePartly:      vmletv1.ResizeOutcome_RESIZE_OUTCOME_PARTLY,
	vm.ResizeNextMachine: vmletv1.ResizeOutcome_RESIZE_OUTCOME_NEXT_MACHINE,
}

func resizedNumber(n vm.ResizedNumber) *vmletv1.ResizedNumber {
	return &vmletv1.ResizedNumber{Before: n.Before, After: n.After, Requested: n.Requested, Outcome: resizeOutcomes[n.Outcome], Detail: n.Detail}
}

func resizedSet(n vm.ResizedSet) *vmletv1.ResizedSet {
	return &vmletv1.ResizedSet{Before: n.Before, After: n.After, Requested: n.Requested, Outcome: resizeOutcomes[n.Outcome], Detail: n.Detail}
}
