// SPDX-License-Identifier: Apache-2.0

package vmapi

import (
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// longestDescription is in bytes.
const longestDescription = 1024

var (
	snapshotStates = map[vm.SnapshotState]vmletv1.SnapshotState{
		vm.SnapshotCreating: vmletv1.SnapshotState_SNAPSHOT_STATE_CREATING,
		vm.SnapshotReady:    vmletv1.SnapshotState_SNAPSHOT_STATE_READY,
		vm.SnapshotDeleting: vmletv1.SnapshotState_SNAPSHOT_STATE_DELETING,
	}
	consistencies = map[vm.Consistency]vmletv1.SnapshotConsistency{
		vm.ConsistencyCrash:  vmletv1.SnapshotConsistency_SNAPSHOT_CONSISTENCY_CRASH,
		vm.ConsistencyMemory: vmletv1.SnapshotConsistency_SNAPSHOT_CONSISTENCY_MEMORY,
		vm.ConsistencyOff:    vmletv1.SnapshotConsistency_SNAPSHOT_CONSISTENCY_OFF,
		vm.ConsistencyFiles:  vmletv1.SnapshotConsistency_SNAPSHOT_CONSISTENCY_FILE_SYSTEM,
	}
)

// checkSnapshot refuses a request that names no snapshot.
func checkSnapshot(req interface {
	GetVm() string
	GetName() string
}) error {
	if err := checkVM(req.GetVm()); err != nil {
		return err
	}
	if err := vm.CheckSnapshotName(req.GetName()); err != nil {
		return fmt.Errorf("name: %w", err)
	}
	return nil
}

// checkLength refuses what is longer than so many bytes.
func checkLength(field, value string, most int) error {
	if len(value) > most {
		return fmt.Errorf("%s: it has %d bytes, and at most %d are kept: %w", field, len(value), most, errdefs.ErrInvalidArgument)
	}
	return nil
}

func snapshotOf(info vm.SnapshotInfo) *vmletv1.Snapshot {
	out := &vmletv1.Snapshot{
		Name:          info.Name,
		PodSandboxId:  info.SandboxID,
		Description:   info.Description,
		State:         snapshotStates[info.State],
		CreatedAt:     info.CreatedAt.UnixNano(),
		Parent:        info.ParentName,
		Current:       info.Current,
		ContainerId:   info.ContainerID,
		Consistency:   consistencies[info.Consistency],
		PauseMs:       info.Paused.Milliseconds(),
		DiskSizeBytes: info.Disk.Size,
		DiskUsedBytes: int64(info.Used),
		MemoryGone:    info.MemoryGone,
		LeftOut:       info.LeftOut,
	}
	for _, part := range info.DataDisks {
		out.DataDisks = append(out.DataDisks, &vmletv1.SnapshotDataDisk{Name: part.Name, SizeBytes: part.Size})
	}
	if info.Memory != nil {
		out.Memory, out.MemoryBytes = true, info.Memory.Size
	}
	return out
}
