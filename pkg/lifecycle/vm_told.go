// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"time"

	"github.com/vmlet/vmlet/pkg/vm"
)

// tell tells watchers of a VM something that no record's state says: a NIC that was attached, a snapshot that was taken.
// Call it when the outcome is on record. It never blocks.
func (s *Service) tell(e vm.VMEvent) { s.news.tell(e, s.now()) }

// tellVM tells watchers what has changed in the records of a sandbox, which every change of one calls. The records are
// read under the lock of the news: what is told is never older than what was told before.
func (s *Service) tellVM(sandboxID string) {
	n := s.news
	n.mu.Lock()
	defer n.mu.Unlock()
	now := s.now()
	sb, err := s.deps.Store.Sandboxes.Get(sandboxID)
	was := n.vms[sandboxID]
	if err != nil || !sb.Status.Visible() {
		if was != nil {
			n.tellOf(was, vm.VMEvent{SandboxID: sandboxID, Kind: vm.VMRemovedEvent}, now)
			delete(n.vms, sandboxID)
		}
		return
	}
	next := s.viewOf(sb)
	if was == nil {
		was = &vmView{halted: next.State == vm.VMPaused}
		n.vms[sandboxID] = was
	}
	n.change(was, next, now)
}

// viewOf is what the records say of a sandbox's VM.
func (s *Service) viewOf(sb vm.Sandbox) vm.VMStatus {
	v := vm.VMStatus{
		SandboxID: sb.ID, Namespace: sb.Spec.Namespace, Pod: sb.Spec.Name, RuntimeHandler: sb.Spec.RuntimeHandler, State: vm.VMAbsent,
	}
	var last *vm.Container
	for _, c := range s.deps.Store.Containers.All() { // oldest first
		if c.SandboxID == sb.ID && c.Status.Visible() {
			last = c
		}
	}
	if last == nil {
		return v
	}
	st := last.Status
	switch st.State {
	case vm.ContainerCreating:
		return v
	case vm.ContainerCreated, vm.ContainerStarting:
		v.State = vm.VMCreated
	case vm.ContainerRunning:
		v.State = vm.VMRunning
		if st.Paused {
			v.State = vm.VMPaused
		}
		if st.Off() {
			v.State = vm.VMOff
		}
		v.Rebooting = st.Reboot != nil && st.Reboot.Asked
	case vm.ContainerExited, vm.ContainerRemoving:
		if st.Exit == nil {
			return v // it was never started
		}
		v.State, v.Exit = vm.VMExited, st.Exit
	}
	v.ContainerID = last.ID
	return v
}

// change tells how the records of a VM differ from what was told of it. n.mu is held.
func (n *news) change(was *vmView, next vm.VMStatus, at time.Time) {
	switch {
	case next.State != vm.VMPaused:
		was.halted = false
	case !was.halted:
		next.State = vm.VMRunning // it is only meant to be paused: tell says when it is
	}
	before := was.VMStatus
	if next.ContainerID == before.ContainerID && (next.State == vm.VMRunning || next.State == vm.VMPaused) {
		next.BootID, next.Answering, next.QGA = before.BootID, before.Answering, before.QGA
	}
	was.VMStatus = next
	say := func(e vm.VMEvent) {
		e.SandboxID, e.Namespace, e.Pod, e.ContainerID, e.At = next.SandboxID, next.Namespace, next.Pod, next.ContainerID, at
		n.add(e)
	}
	ended := next.State == vm.VMExited || next.State == vm.VMOff
	if before.Answering && ended { // whichever is seen first, both are told
		say(vm.VMEvent{Kind: vm.AgentDownEvent, Agent: vm.AgentVMlet, BootID: before.BootID})
	}
	if before.QGA && ended {
		say(vm.VMEvent{Kind: vm.AgentDownEvent, Agent: vm.AgentQEMU})
	}
	switch {
	case next.State == before.State && next.ContainerID == before.ContainerID:
	case next.State == vm.VMRunning && before.State == vm.VMPaused && next.ContainerID == before.ContainerID:
		say(vm.VMEvent{Kind: vm.VMResumedEvent})
	case next.State == vm.VMExited:
		say(vm.VMEvent{Kind: vm.VMExitedEvent, Reason: next.Exit.Reason, Message: next.Exit.Message, ExitCode: next.Exit.Code})
	default:
		say(vm.VMEvent{Kind: vm.VMEventKind(next.State)})
	}
	if next.Rebooting && !before.Rebooting {
		say(vm.VMEvent{Kind: vm.VMRebootingEvent})
	}
}
