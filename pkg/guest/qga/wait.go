// SPDX-License-Identifier: Apache-2.0

package qga

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
)

// How often to ask a guest that has no agent yet. A hung agent takes its time to not
// answer, and one of few slots; the pause is patience times that long, so that hung
// guests leave the slots to the others.
const (
	askFirst = 50 * time.Millisecond
	askMost  = 500 * time.Millisecond
	patience = 4
)

// Await returns once the guest's agent answers, or with an error that waiting cannot mend,
// or when ctx ends.
func (a *Agent) Await(ctx context.Context, id string) error {
	for pause := askFirst; ; pause = min(2*pause, askMost) {
		asked := time.Now()
		err := a.ping(ctx, id)
		if err == nil || ctx.Err() == nil && !errdefs.IsUnavailable(err) {
			return err
		}
		select {
		case <-time.After(max(pause, patience*time.Since(asked))):
		case <-ctx.Done():
			return fmt.Errorf("guest agent did not answer; is qemu-guest-agent installed and running in the image? "+
				"(last: %s): %w", err.Error(), ctx.Err())
		}
	}
}

func (a *Agent) ping(ctx context.Context, id string) error {
	return a.command(ctx, id, probeTimeout, "guest-ping", nil, nil)
}

// How often to ask for the end of a process. The agent tells of no event, and a command
// that waited in the guest would hold up all others, since the agent does one thing at a
// time. Most commands are probes, which end at once; each question costs the guest about
// what a context switch or two cost, so it is asked ever less often.
const (
	pollFirst = 5 * time.Millisecond
	pollMost  = 100 * time.Millisecond
)

// wait returns how the process ended. It outwaits an agent that does not answer.
func (a *Agent) wait(ctx context.Context, id string, pid int) (execStatus, error) {
	arguments := map[string]int{"pid": pid}
	pause, next := pollFirst, pollFirst
	for {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return execStatus{}, ctx.Err()
		}
		asked := time.Now()
		var status execStatus
		err := a.command(ctx, id, commandTimeout, "guest-exec-status", arguments, &status)
		next = min(next*3/2, pollMost)
		switch {
		case err == nil && *status.Exited:
			return status, nil
		case err == nil:
			pause = next
		case errdefs.IsUnavailable(err):
			pause = max(pollMost, patience*time.Since(asked))
		default:
			return execStatus{}, err
		}
	}
}
