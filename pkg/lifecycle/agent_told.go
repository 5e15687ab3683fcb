// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"

	"github.com/vmlet/vmlet/pkg/vm"
)

// hearAgents tells watchers of agents that come and go.
func (s *Service) hearAgents(ctx context.Context) {
	for {
		id, err := s.deps.Guest.AwaitChange(ctx)
		if err != nil {
			return
		}
		s.tellAgent(id)
	}
}

// tellAgent tells whether vmlet-agent answers in a guest, if that is news. Another boot ID than before is a reboot.
func (s *Service) tellAgent(sandboxID string) {
	n := s.news
	n.mu.Lock()
	defer n.mu.Unlock()
	v := n.vms[sandboxID]
	if v == nil || v.State != vm.VMRunning && v.State != vm.VMPaused {
		return
	}
	boot, up := s.deps.Guest.Agent(sandboxID) // under the lock: the last who asks has the newest answer
	now := s.now()
	e := vm.VMEvent{SandboxID: sandboxID, Agent: vm.AgentVMlet, BootID: boot}
	switch {
	case up && v.BootID != "" && v.BootID != boot:
		v.BootID, v.Answering = boot, true
		n.tellOf(v, vm.VMEvent{SandboxID: sandboxID, Kind: vm.VMRebootedEvent, BootID: boot}, now)
		e.Kind = vm.AgentUpEvent
	case up && !v.Answering:
		v.BootID, v.Answering = boot, true
		e.Kind = vm.AgentUpEvent
	case !up && v.Answering:
		v.Answering = false
		e.Kind, e.BootID = vm.AgentDownEvent, v.BootID
	default:
		return
	}
	n.tellOf(v, e, now)
}

// tellQGA tells whether a guest has qemu-guest-agent's port open, if that is news.
func (s *Service) tellQGA(sandboxID string, open bool) {
	n := s.news
	n.mu.Lock()
	defer n.mu.Unlock()
	v := n.vms[sandboxID]
	if v == nil || v.QGA == open || v.State != vm.VMRunning && v.State != vm.VMPaused {
		return
	}
	v.QGA = open
	kind := vm.AgentDownEvent
	if open {
		kind = vm.AgentUpEvent
	}
	n.tellOf(v, vm.VMEvent{SandboxID: sandboxID, Kind: kind, Agent: vm.AgentQEMU}, s.now())
}
