// SPDX-License-Identifier: Apache-2.0

package lifecycle

import "github.com/vmlet/vmlet/pkg/vm"

// observed is what recovery sees of a sandbox beside its records.
type observed struct {
	domain vm.DomainState
	netns  bool
}

// sandboxAction is what recovery does about a sandbox.
type sandboxAction string

const (
	sandboxKeep       sandboxAction = "keep"
	sandboxUndo       sandboxAction = "undo the creation"
	sandboxFinishStop sandboxAction = "finish the stop"
	sandboxFinishGone sandboxAction = "finish the removal"
	// sandboxLost: the network namespace is gone, as after a reboot of the host; what
	// is left is given back, and the sandbox becomes NotReady with its disks.
	sandboxLost sandboxAction = "give up what the host lost"
)

// decideSandbox says what to do about a sandbox after a restart. Pure.
func decideSandbox(sb vm.Sandbox, o observed) sandboxAction {
	switch sb.Status.State {
	case vm.SandboxCreating:
		return sandboxUndo
	case vm.SandboxBroken, vm.SandboxStopping:
		return sandboxFinishStop
	case vm.SandboxRemoving:
		return sandboxFinishGone
	case vm.SandboxReady:
		if !o.netns {
			return sandboxLost
		}
	case vm.SandboxNotReady:
	}
	return sandboxKeep
}

// containerAction is what recovery does about a container.
type containerAction string

const (
	containerKeep        containerAction = "keep"
	containerUndo        containerAction = "undo the creation"
	containerFinishStart containerAction = "finish the start"
	containerRearm       containerAction = "go on with it"
	containerResumeStop  containerAction = "go on with the stop"
	containerSettle      containerAction = "settle its exit"
	containerKeepOff     containerAction = "keep it powered off"
	containerFinishGone  containerAction = "finish the removal"
)

// decideContainer says what to do about a container of a sandbox that is kept. Pure.
func decideContainer(c vm.Container, o observed) containerAction {
	switch c.Status.State {
	case vm.ContainerCreating:
		return containerUndo
	case vm.ContainerStarting:
		if c.Status.Stop != nil {
			return containerResumeStop
		}
		return containerFinishStart
	case vm.ContainerRunning:
		switch {
		case c.Status.Off():
			return containerKeepOff
		case !o.domain.Active():
			return containerSettle
		case c.Status.Stop != nil:
			return containerResumeStop
		default:
			return containerRearm
		}
	case vm.ContainerRemoving:
		return containerFinishGone
	case vm.ContainerCreated, vm.ContainerExited:
	}
	return containerKeep
}
