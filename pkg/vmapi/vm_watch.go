// SPDX-License-Identifier: Apache-2.0

package vmapi

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/vmlet/vmlet/pkg/vm"
	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// Watch tells what happens to VMs until the client goes away.
func (s *vmServer) Watch(req *vmletv1.WatchRequest, stream grpc.ServerStreamingServer[vmletv1.WatchResponse]) error {
	if err := stream.SendHeader(metadata.MD{}); err != nil { // the client was let in
		return err
	}
	return s.vms.Watch(stream.Context(), req.GetVm(), req.GetSinceToken(), func(m vm.WatchMessage) error {
		return stream.Send(watchResponse(m))
	})
}

func watchResponse(m vm.WatchMessage) *vmletv1.WatchResponse {
	resp := &vmletv1.WatchResponse{Token: m.Token}
	switch {
	case m.Event != nil:
		resp.Message = &vmletv1.WatchResponse_Event{Event: eventOf(*m.Event)}
	case m.Present != nil:
		resp.Message = &vmletv1.WatchResponse_Present{Present: statusOf(*m.Present)}
	default:
		resp.Message = &vmletv1.WatchResponse_Synced{Synced: &vmletv1.WatchSynced{}}
	}
	return resp
}

func eventOf(e vm.VMEvent) *vmletv1.VMEvent {
	return &vmletv1.VMEvent{
		Kind: string(e.Kind), PodSandboxId: e.SandboxID, Namespace: e.Namespace, Pod: e.Pod, ContainerId: e.ContainerID,
		At: e.At.UnixNano(), Subject: e.Subject, Reason: e.Reason, Message: e.Message, ExitCode: e.ExitCode,
		Agent: string(e.Agent), BootId: e.BootID,
	}
}

var vmStates = map[vm.VMState]vmletv1.VMState{
	vm.VMAbsent:  vmletv1.VMState_VM_STATE_ABSENT,
	vm.VMCreated: vmletv1.VMState_VM_STATE_CREATED,
	vm.VMRunning: vmletv1.VMState_VM_STATE_RUNNING,
	vm.VMPaused:  vmletv1.VMState_VM_STATE_PAUSED,
	vm.VMOff:     vmletv1.VMState_VM_STATE_POWERED_OFF,
	vm.VMExited:  vmletv1.VMState_VM_STATE_EXITED,
}

func statusOf(v vm.VMStatus) *vmletv1.VMStatus {
	out := &vmletv1.VMStatus{
		PodSandboxId: v.SandboxID, Namespace: v.Namespace, Pod: v.Pod, ContainerId: v.ContainerID,
		State: vmStates[v.State], Rebooting: v.Rebooting, BootId: v.BootID,
	}
	if v.Exit != nil {
		out.Reason, out.Message, out.ExitCode = v.Exit.Reason, v.Exit.Message, v.Exit.Code
	}
	if v.Answering {
		out.Agents = append(out.Agents, string(vm.AgentVMlet))
	}
	if v.QGA {
		out.Agents = append(out.Agents, string(vm.AgentQEMU))
	}
	return out
}
