// SPDX-License-Identifier: Apache-2.0

package vmagent

import (
	"context"
	"time"

	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// Freeze has the guest write no more to its file systems, and returns how many those are. Not twice: the answer to a second
// request would be that they are frozen.
func (a *Agents) Freeze(ctx context.Context, id string, most time.Duration) (int, error) {
	reply, err := a.Ask(ctx, id, &agentv1.Request{Call: &agentv1.Request_Freeze{Freeze: &agentv1.FreezeRequest{TimeoutNano: int64(most)}}})
	return len(reply.GetFrozen().GetMountPoints()), a.tooOld(id, err)
}

// Thaw lets the guest write again, and returns how many file systems were frozen. Not twice: a session that ends thaws
// them, and the answer would be of those after that.
func (a *Agents) Thaw(ctx context.Context, id string) (int, error) {
	reply, err := a.Ask(ctx, id, &agentv1.Request{Call: &agentv1.Request_Thaw{Thaw: &agentv1.ThawRequest{}}})
	return len(reply.GetFrozen().GetMountPoints()), a.tooOld(id, err)
}

// SetClock sets the guest's clock to what now returns once a session is there.
func (a *Agents) SetClock(ctx context.Context, id string, now func() time.Time) error {
	if _, err := a.Await(ctx, id); err != nil {
		return err
	}
	_, err := a.Ask(ctx, id, &agentv1.Request{Call: &agentv1.Request_SetClock{SetClock: &agentv1.SetClockRequest{UnixNano: now().UnixNano()}}})
	return a.tooOld(id, err)
}
