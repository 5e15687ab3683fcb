// SPDX-License-Identifier: Apache-2.0

package vmapi

import (
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

var operationStates = map[vm.OperationState]vmletv1.OperationState{
	vm.OperationRunning:   vmletv1.OperationState_OPERATION_STATE_RUNNING,
	vm.OperationSucceeded: vmletv1.OperationState_OPERATION_STATE_SUCCEEDED,
	vm.OperationFailed:    vmletv1.OperationState_OPERATION_STATE_FAILED,
	vm.OperationCancelled: vmletv1.OperationState_OPERATION_STATE_CANCELLED,
}

func operationOf(o vm.OperationInfo) *vmletv1.Operation {
	out := &vmletv1.Operation{
		Id: o.ID, Kind: string(o.Kind), Subject: o.Subject, PodSandboxId: o.SandboxID, Namespace: o.Namespace, Pod: o.Pod,
		State: operationStates[o.State], StartedAt: o.StartedAt.UnixNano(), Error: o.Error,
		DoneBytes: o.Done, TotalBytes: o.Total, Cancellable: o.Cancellable,
	}
	if !o.EndedAt.IsZero() {
		out.EndedAt = o.EndedAt.UnixNano()
	}
	return out
}

func checkOperation(id string) error {
	if id == "" {
		return fmt.Errorf("id: must not be empty: %w", errdefs.ErrInvalidArgument)
	}
	return nil
}
