// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"testing"

	"github.com/vmlet/vmlet/pkg/vm"
)

func TestDecideSandbox(t *testing.T) {
	for _, tc := range []struct {
		state vm.SandboxState
		netns bool
		want  sandboxAction
	}{
		{vm.SandboxCreating, true, sandboxUndo},
		{vm.SandboxCreating, false, sandboxUndo},
		{vm.SandboxBroken, true, sandboxFinishStop},
		{vm.SandboxStopping, false, sandboxFinishStop},
		{vm.SandboxRemoving, false, sandboxFinishGone},
		{vm.SandboxReady, true, sandboxKeep},
		{vm.SandboxReady, false, sandboxLost},
		{vm.SandboxNotReady, false, sandboxKeep},
	} {
		got := decideSandbox(vm.Sandbox{Status: vm.SandboxStatus{State: tc.state}}, observed{netns: tc.netns})
		if got != tc.want {
			t.Errorf("%s, netns %v: %s, want %s", tc.state, tc.netns, got, tc.want)
		}
	}
}

func TestDecideContainer(t *testing.T) {
	stop := &vm.StopIntent{}
	for _, tc := range []struct {
		state  vm.ContainerState
		stop   *vm.StopIntent
		domain vm.DomainState
		want   containerAction
	}{
		{vm.ContainerCreating, nil, vm.DomainAbsent, containerUndo},
		{vm.ContainerCreating, nil, vm.DomainShutoff, containerUndo},
		{vm.ContainerCreated, nil, vm.DomainShutoff, containerKeep},
		{vm.ContainerStarting, nil, vm.DomainShutoff, containerFinishStart},
		{vm.ContainerStarting, nil, vm.DomainPaused, containerFinishStart},
		{vm.ContainerStarting, nil, vm.DomainRunning, containerFinishStart},
		{vm.ContainerStarting, stop, vm.DomainRunning, containerResumeStop},
		{vm.ContainerRunning, nil, vm.DomainRunning, containerRearm},
		{vm.ContainerRunning, nil, vm.DomainPaused, containerRearm},
		{vm.ContainerRunning, nil, vm.DomainShutoff, containerSettle},
		{vm.ContainerRunning, nil, vm.DomainAbsent, containerSettle},
		{vm.ContainerRunning, nil, vm.DomainCrashed, containerSettle},
		{vm.ContainerRunning, stop, vm.DomainRunning, containerResumeStop},
		{vm.ContainerRunning, stop, vm.DomainShutoff, containerSettle},
		{vm.ContainerExited, nil, vm.DomainShutoff, containerKeep},
		{vm.ContainerExited, nil, vm.DomainRunning, containerKeep},
		{vm.ContainerRemoving, nil, vm.DomainRunning, containerFinishGone},
	} {
		c := vm.Container{Status: vm.ContainerStatus{State: tc.state, Stop: tc.stop}}
		if got := decideContainer(c, observed{domain: tc.domain}); got != tc.want {
			t.Errorf("%s, stop %v, domain %s: %s, want %s", tc.state, tc.stop != nil, tc.domain, got, tc.want)
		}
	}
}
