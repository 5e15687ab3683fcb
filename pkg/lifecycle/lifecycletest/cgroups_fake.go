// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/lifecycle"
	"github.com/vmlet/vmlet/pkg/vm"
)

var _ lifecycle.Cgroups = (*Cgroups)(nil)

// Cgroups is a lifecycle.Cgroups without a kernel.
type Cgroups struct {
	Script

	groupMu sync.Mutex
	groups  map[string]*Cgroup
	usage   map[string]vm.CgroupUsage
	alive   func(pid int) bool
}

// Cgroup is one group of the fake.
type Cgroup struct {
	Parent    string
	Resources vm.Resources
	PIDs      []int
}

// NewCgroups makes a fake without any group.
func NewCgroups() *Cgroups {
	return &Cgroups{groups: map[string]*Cgroup{}, usage: map[string]vm.CgroupUsage{}}
}

// SetUsage sets the counters of a sandbox's group, before or after it is made.
func (c *Cgroups) SetUsage(id string, u vm.CgroupUsage) {
	c.groupMu.Lock()
	defer c.groupMu.Unlock()
	c.usage[id] = u
}

// SetOOMKills sets how many kills by the kernel the group has counted.
func (c *Cgroups) SetOOMKills(id string, n uint64) {
	c.groupMu.Lock()
	defer c.groupMu.Unlock()
	u := c.usage[id]
	u.OOMKills = n
	c.usage[id] = u
}

// SetAlive has f asked by Remove which placed processes still run, as a fake hypervisor
// knows. Without it they are taken for ended.
func (c *Cgroups) SetAlive(f func(pid int) bool) {
	c.groupMu.Lock()
	defer c.groupMu.Unlock()
	c.alive = f
}

// Groups returns a copy of the groups that exist, by sandbox ID: a leak check.
func (c *Cgroups) Groups() map[string]Cgroup {
	c.groupMu.Lock()
	defer c.groupMu.Unlock()
	out := map[string]Cgroup{}
	for id, g := range c.groups {
		out[id] = Cgroup{Parent: g.Parent, Resources: g.Resources, PIDs: slices.Clone(g.PIDs)}
	}
	return out
}

// Create implements lifecycle.Cgroups.
func (c *Cgroups) Create(ctx context.Context, id, parent string, res vm.Resources) error {
	if err := c.enter(ctx, "Create", id); err != nil {
		return err
	}
	c.groupMu.Lock()
	defer c.groupMu.Unlock()
	if g := c.groups[id]; g != nil {
		g.Resources = res
		return nil
	}
	c.groups[id] = &Cgroup{Parent: parent, Resources: res}
	return nil
}

// Place implements lifecycle.Cgroups.
func (c *Cgroups) Place(ctx context.Context, id, parent string, pid int) error {
	if err := c.enter(ctx, "Place", id); err != nil {
		return err
	}
	c.groupMu.Lock()
	defer c.groupMu.Unlock()
	g, err := c.group(id, parent)
	if err != nil {
		return err
	}
	if !slices.Contains(g.PIDs, pid) {
		g.PIDs = append(g.PIDs, pid)
	}
	return nil
}

// Update implements lifecycle.Cgroups.
func (c *Cgroups) Update(ctx context.Context, id, parent string, _, to vm.Resources) error {
	if err := c.enter(ctx, "Update", id); err != nil {
		return err
	}
	c.groupMu.Lock()
	defer c.groupMu.Unlock()
	g, err := c.group(id, parent)
	if err != nil {
		return err
	}
	if used := c.usage[id].MemoryUsage; to.MemoryLimit > 0 && used > uint64(to.MemoryLimit) {
		return fmt.Errorf("limit the cgroup of %s to %d bytes, of which %d are used: %w", id, to.MemoryLimit, used, errdefs.ErrFailedPrecondition)
	}
	g.Resources = to
	return nil
}

// Usage implements lifecycle.Cgroups.
func (c *Cgroups) Usage(ctx context.Context, id, parent string) (vm.CgroupUsage, error) {
	if err := c.enter(ctx, "Usage", id); err != nil {
		return vm.CgroupUsage{}, err
	}
	c.groupMu.Lock()
	defer c.groupMu.Unlock()
	g, err := c.group(id, parent)
	if err != nil {
		return vm.CgroupUsage{}, err
	}
	u := c.usage[id]
	u.MemoryLimit = uint64(max(g.Resources.MemoryLimit, 0))
	u.PIDs = uint64(len(g.PIDs))
	return u, nil
}

// Remove implements lifecycle.Cgroups.
func (c *Cgroups) Remove(ctx context.Context, id, _ string) error {
	if err := c.enter(ctx, "Remove", id); err != nil {
		return err
	}
	c.groupMu.Lock()
	defer c.groupMu.Unlock()
	if g := c.groups[id]; g != nil && c.alive != nil && slices.ContainsFunc(g.PIDs, c.alive) {
		return fmt.Errorf("remove the cgroup of %s: it holds processes: %w", id, errdefs.ErrFailedPrecondition)
	}
	if c.groups[id] != nil {
		delete(c.usage, id) // counters go with their group
	}
	delete(c.groups, id)
	return nil
}

func (c *Cgroups) group(id, parent string) (*Cgroup, error) {
	g := c.groups[id]
	if g == nil || g.Parent != parent {
		return nil, fmt.Errorf("cgroup of %s under %q: %w", id, parent, errdefs.ErrNotFound)
	}
	return g, nil
}
