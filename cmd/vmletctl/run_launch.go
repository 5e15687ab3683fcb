// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// undoTime bounds the removal of what a failed run has made.
const undoTime = time.Minute

// launch makes a pod and starts its VM, or leaves nothing of it.
func (c *client) launch(ctx context.Context, s spec) (t target, err error) {
	id, err := c.runSandbox(ctx, s.pod)
	if err != nil {
		return target{}, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.undo(ctx, id, s))
		}
	}()
	created, err := c.runtime.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{
		PodSandboxId: id, Config: s.container, SandboxConfig: s.pod,
	})
	if err != nil {
		return target{}, err
	}
	boot := &runtimeapi.Container{Id: created.GetContainerId(), PodSandboxId: id}
	if _, err := c.runtime.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: boot.GetId()}); err != nil {
		return target{}, err
	}
	sandbox := &runtimeapi.PodSandbox{Id: id, Metadata: s.pod.GetMetadata()}
	return target{pod{sandbox, []*runtimeapi.Container{boot}}, boot}, nil
}

// runSandbox runs a sandbox. vmlet finishes what it has begun even if nobody waits for it
// any more, so who gives up asks again: that waits for the first call and tells the ID by
// which to remove its result.
func (c *client) runSandbox(ctx context.Context, config *runtimeapi.PodSandboxConfig) (id string, err error) {
	req := &runtimeapi.RunPodSandboxRequest{Config: config}
	resp, err := c.runtime.RunPodSandbox(ctx, req)
	if err == nil || ctx.Err() == nil {
		return resp.GetPodSandboxId(), err
	}
	later, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	if resp, again := c.runtime.RunPodSandbox(later, req); again == nil {
		err = errors.Join(err, c.removeSandbox(later, resp.GetPodSandboxId()))
	}
	return "", err
}

// undo removes what launch has made.
func (c *client) undo(ctx context.Context, id string, s spec) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	if err := c.removeSandbox(ctx, id); err != nil {
		return fmt.Errorf("and what was made of it is left: %w; remove it by vmletctl rm -f %s", err, short(id))
	}
	if err := removeLog(s.logPath()); err != nil {
		return fmt.Errorf("and its log is left: %w", err)
	}
	return nil
}
