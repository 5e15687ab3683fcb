// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// defaultWait is how long --wait waits for a guest when --timeout does not say.
const defaultWait = 2 * time.Minute

// whenEnded returns a channel that is closed when a container has ended or is gone, or
// when ctx ends. vmlet may go away and come back in the meantime: VMs and logs go on.
func (a *app) whenEnded(ctx context.Context, c *client, id string) <-chan struct{} {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(a.poll)
		defer tick.Stop()
		for {
			resp, err := c.runtime.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: id})
			gone := status.Code(err) == codes.NotFound
			if gone || err == nil && resp.GetStatus().GetState() == runtimeapi.ContainerState_CONTAINER_EXITED {
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	return ended
}

// awaitAgent waits until the guest's agent runs a command, or until the VM has ended.
func (a *app) awaitAgent(ctx context.Context, c *client, t target) error {
	limit := cmp.Or(a.timeout, defaultWait)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	answered := make(chan error, 1)
	go func() {
		_, err := c.runtime.ExecSync(ctx, &runtimeapi.ExecSyncRequest{
			ContainerId: t.boot.GetId(), Cmd: []string{"true"}, Timeout: wholeSeconds(limit),
		})
		answered <- err
	}()
	var err error
	select {
	case err = <-answered:
	case <-a.whenEnded(ctx, c, t.boot.GetId()):
		err = fmt.Errorf("the VM of pod %s ended while it was waited for; see how: vmletctl inspect %s, vmletctl logs %s", t, t, t)
	}
	if status.Code(err) == codes.DeadlineExceeded || errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("pod %s runs, but its guest agent did not answer within %s; see what the guest says: vmletctl logs %s", t, limit, t)
	}
	if ctx.Err() != nil {
		return errInterrupted
	}
	return err
}
