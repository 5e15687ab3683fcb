// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"context"
	"fmt"
	"math"
	"time"

	virt "libvirt.org/go/libvirt"
)

// Agent carries commands to the qemu-guest-agent in a sandbox's guest, on a connection of
// its own: libvirt blocks other calls of a connection on which agents hang. The caller
// sends one command per sandbox at a time. Safe for concurrent use.
type Agent struct{ h *Hypervisor }

// Agent returns the way to the guests' agents. It lives as long as the Hypervisor.
func (h *Hypervisor) Agent() *Agent { return &Agent{h} }

// Command sends one JSON command (https://qemu-project.gitlab.io/qemu/interop/qemu-ga-ref.html)
// and returns the agent's JSON answer. Unavailable while no agent answers, NotFound without
// a domain, FailedPrecondition if it is not active. When ctx ends first its error is
// returned; the agent may still do what it was told.
func (a *Agent) Command(ctx context.Context, id string, cmd []byte) ([]byte, error) {
	timeout := agentTimeout(ctx)
	return call(ctx, a.h.agentConn, "ask the agent", id, func(s *session) ([]byte, error) {
		dom, err := a.h.find(s, id)
		if err != nil {
			return nil, err
		}
		defer free(dom)
		answer, err := dom.QemuAgentCommand(string(cmd), timeout, 0)
		if err != nil {
			// Not the command: it may hold a user's data.
			return nil, fmt.Errorf("qemu-guest-agent: %w", err)
		}
		return []byte(answer), nil
	})
}

// agentTimeout is how long libvirt waits for the answer: whole seconds, at least until ctx
// ends, so that the slot is free again soon after the caller has left.
func agentTimeout(ctx context.Context) virt.DomainQemuAgentCommandTimeout {
	deadline, ok := ctx.Deadline()
	if !ok {
		return virt.DOMAIN_QEMU_AGENT_COMMAND_DEFAULT
	}
	seconds := math.Ceil(time.Until(deadline).Seconds())
	return virt.DomainQemuAgentCommandTimeout(max(1, seconds))
}
