// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"

	"google.golang.org/grpc"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

func (v vms) Watch(req *vmletv1.WatchRequest, stream grpc.ServerStreamingServer[vmletv1.WatchResponse]) error {
	v.mu.Lock()
	v.note("Watch %s since %s", req.GetVm(), req.GetSinceToken())
	v.mu.Unlock()
	at := clock.UnixNano()
	event := func(token string, e *vmletv1.VMEvent) *vmletv1.WatchResponse {
		e.Namespace, e.Pod, e.PodSandboxId, e.At = "default", "web", webID, at
		return &vmletv1.WatchResponse{Token: token, Message: &vmletv1.WatchResponse_Event{Event: e}}
	}
	present := func(s *vmletv1.VMStatus) *vmletv1.WatchResponse {
		return &vmletv1.WatchResponse{Message: &vmletv1.WatchResponse_Present{Present: s}}
	}
	synced := &vmletv1.WatchResponse{Token: "e.2", Message: &vmletv1.WatchResponse_Synced{Synced: &vmletv1.WatchSynced{}}}
	messages := []*vmletv1.WatchResponse{
		present(&vmletv1.VMStatus{
			Namespace: "default", Pod: "web", PodSandboxId: webID, ContainerId: webBoot2, State: vmletv1.VMState_VM_STATE_RUNNING,
			Rebooting: true, Agents: []string{"vmlet-agent"}, BootId: "boot-0",
		}),
		present(&vmletv1.VMStatus{
			Namespace: "shop", Pod: "db", PodSandboxId: dbID, State: vmletv1.VMState_VM_STATE_EXITED, Reason: "Killed", ExitCode: 137,
			Message: "the guest did not power off in time and was destroyed",
		}),
		synced,
	}
	if req.GetSinceToken() != "" {
		messages = []*vmletv1.WatchResponse{
			event("e.2", &vmletv1.VMEvent{Kind: "agent-up", Agent: "vmlet-agent", BootId: "boot-1"}), synced,
			event("e.3", &vmletv1.VMEvent{Kind: "nic-attached", Subject: "eth1"}),
			event("e.4", &vmletv1.VMEvent{Kind: "exited", Reason: "Completed"}),
		}
	}
	var errs []error
	for _, m := range messages {
		errs = append(errs, stream.Send(m))
	}
	return errors.Join(errs...)
}

func (v vms) Capabilities(_ context.Context, req *vmletv1.CapabilitiesRequest) (*vmletv1.CapabilitiesResponse, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.note("Capabilities %s", req.GetVm())
	return &vmletv1.CapabilitiesResponse{Capabilities: []*vmletv1.Capability{
		{Name: "kvm", WhyNot: "the CPU shows neither vmx nor svm (/proc/cpuinfo)"}, {Name: "exec", Available: true},
	}}, nil
}
