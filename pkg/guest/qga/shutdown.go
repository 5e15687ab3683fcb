// SPDX-License-Identifier: Apache-2.0

package qga

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// shutdownTimeout is how long guest-shutdown has to be refused. Obeyed, it is not answered.
const shutdownTimeout = time.Second

// Shutdown asks the agent to power the guest off, and returns once the agent has had time
// to refuse: at most a second or so. Unavailable without an agent.
func (a *Agent) Shutdown(ctx context.Context, id string) error {
	return a.goDown(ctx, "shut down", id, "powerdown")
}

// Reboot asks the agent to have the guest reboot, under the terms of Shutdown.
func (a *Agent) Reboot(ctx context.Context, id string) error {
	return a.goDown(ctx, "reboot", id, "reboot")
}

func (a *Agent) goDown(ctx context.Context, what, id, mode string) error {
	// guest-shutdown's silence means yes, so somebody has to be there.
	if err := a.ping(ctx, id); err != nil {
		return fmt.Errorf("%s the guest of %s: %w", what, id, err)
	}
	err := a.command(ctx, id, shutdownTimeout, "guest-shutdown", map[string]string{"mode": mode}, nil)
	if err != nil && (ctx.Err() != nil || errors.Is(err, errRefused)) {
		return fmt.Errorf("%s the guest of %s: %w", what, id, err)
	}
	// No answer, or a guest or domain that was gone before it could be given.
	return nil
}
