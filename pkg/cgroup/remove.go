// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/pkg/vm"
)

// A process that was just killed is in its group until the kernel has taken it apart, and
// no event that all cgroup versions share tells when. So Remove looks again, ever less
// often, and gives up after drainTimeout.
const (
	drainFirst   = time.Millisecond
	drainMost    = 50 * time.Millisecond
	drainTimeout = 2 * time.Second
)

// Remove removes the group once it is empty; it kills nothing, and FailedPrecondition says
// that a process goes on living in it. Idempotent.
func (c *Cgroups) Remove(ctx context.Context, id, parent string) error {
	c.mu.Lock()
	delete(c.limits, id)
	delete(c.scores, id)
	delete(c.kills, id)
	c.mu.Unlock()
	g, err := c.group(id, parent, vm.Resources{})
	if err != nil {
		return fmt.Errorf("remove the cgroup of %s: %w", id, err)
	}
	// Empty before all else: to destroy a systemd scope is to kill what is in it.
	if err := drain(ctx, g.dir); err != nil {
		return fmt.Errorf("remove the cgroup of %s under %q: %w", id, parent, err)
	}
	if err := g.manager.Destroy(); err != nil {
		return fmt.Errorf("remove the cgroup of %s under %q: %w", id, parent, err)
	}
	return nil
}

// drain waits until no process is in the group, or no group is there.
func drain(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	for wait := drainFirst; ; wait = min(2*wait, drainMost) {
		pids, err := cgroups.GetPids(dir)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) {
			return nil
		}
		if err != nil {
			return err
		}
		if len(pids) == 0 {
			return nil
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return fmt.Errorf("it holds processes %v: %w: %w", pids, ctx.Err(), errdefs.ErrFailedPrecondition)
		}
	}
}
