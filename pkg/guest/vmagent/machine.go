// SPDX-License-Identifier: Apache-2.0

package vmagent

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// Setup makes the guest as the pod wants it. Idempotent.
func (a *Agents) Setup(ctx context.Context, id string, s vm.GuestSetup) error {
	_, err := a.insist(ctx, id, &agentv1.Request{Call: &agentv1.Request_Setup{Setup: &agentv1.SetupRequest{
		Hostname: s.Hostname, Sysctls: s.Sysctls, ResolvConf: s.ResolvConf,
	}}})
	return err
}

// Shutdown asks the agent to power the guest off. Unavailable if none answers now.
func (a *Agents) Shutdown(ctx context.Context, id string) error {
	return a.power(ctx, id, agentv1.PowerRequest_OFF)
}

// Reboot asks the agent to have the guest reboot. Unavailable if none answers now.
func (a *Agents) Reboot(ctx context.Context, id string) error {
	return a.power(ctx, id, agentv1.PowerRequest_REBOOT)
}

func (a *Agents) power(ctx context.Context, id string, action agentv1.PowerRequest_Action) error {
	if !a.Answers(id) {
		return fmt.Errorf("no vmlet-agent answers in the guest of %s: %w", id, errdefs.ErrUnavailable)
	}
	_, err := a.Ask(ctx, id, &agentv1.Request{Call: &agentv1.Request_Power{
		Power: &agentv1.PowerRequest{Action: action},
	}})
	if errors.Is(err, errGone) {
		return nil // a guest that goes down answers no more
	}
	return err
}
