// SPDX-License-Identifier: Apache-2.0

package vmagent

import (
	"context"
	"fmt"

	"github.com/vmlet/vmlet/pkg/agentlink"
	"github.com/vmlet/vmlet/pkg/vm"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// growths are the outcomes in the protocol's words.
var growths = map[agentv1.DiskGrowth_Outcome]vm.Growth{
	agentv1.DiskGrowth_GROWN:   vm.GrowthGrown,
	agentv1.DiskGrowth_SKIPPED: vm.GrowthSkipped,
	agentv1.DiskGrowth_FAILED:  vm.GrowthFailed,
}

// DiskUse asks what uses a disk.
func (a *Agents) DiskUse(ctx context.Context, id, serial string) (string, error) {
	reply, err := a.insist(ctx, id, &agentv1.Request{Call: &agentv1.Request_DiskUse{DiskUse: &agentv1.DiskUseRequest{Serial: serial}}})
	if err != nil {
		return "", err
	}
	return agentlink.Printable(reply.GetDiskUse().GetUse(), maxText), nil
}

// GrowFileSystem has the file system on a disk take all of it. Idempotent.
func (a *Agents) GrowFileSystem(ctx context.Context, id, serial string, size int64) (vm.FileSystemGrowth, error) {
	reply, err := a.insist(ctx, id, &agentv1.Request{Call: &agentv1.Request_GrowDisk{
		GrowDisk: &agentv1.GrowDiskRequest{Serial: serial, SizeBytes: size},
	}})
	if err != nil {
		return vm.FileSystemGrowth{}, err
	}
	did, known := growths[reply.GetDiskGrowth().GetOutcome()]
	if !known {
		return vm.FileSystemGrowth{}, nonsense(fmt.Errorf("outcome %d", reply.GetDiskGrowth().GetOutcome()))
	}
	return vm.FileSystemGrowth{Outcome: did, Detail: agentlink.Printable(reply.GetDiskGrowth().GetDetail(), maxText)}, nil
}
