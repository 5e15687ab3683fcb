// SPDX-License-Identifier: Apache-2.0

// Package cgroup puts QEMU into the pod's cgroup, limits it there and reads what it uses.
//
// Every sandbox has one group of its own, a leaf under the pod's group: kubelet makes and
// removes the pod's group, vmlet the leaf. Without a pod's group the leaf stands under
// /vmlet (vmlet.slice), which stays when the last leaf goes: removing it would race with
// the next sandbox, and one empty group costs nothing.
//
// The kernel's side is github.com/opencontainers/cgroups, as in runc and kubelet: cgroup v1
// and v2, each by writing to cgroupfs or by asking systemd.
package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/manager"
	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/pkg/vm"
)

// The drivers: who writes to cgroupfs. It has to be kubelet's.
const (
	DriverCgroupfs = "cgroupfs"
	DriverSystemd  = "systemd"
)

// Config says how cgroups are managed on this host.
type Config struct {
	// Driver is DriverCgroupfs or DriverSystemd.
	Driver string
}

// Cgroups implements lifecycle.Cgroups. It is safe for concurrent use, but calls for one
// sandbox must not overlap. D-Bus calls of the systemd driver do not end with ctx; the
// library bounds them.
type Cgroups struct {
	driver string
	// roots maps each controller's name to where it is mounted; on cgroup v2 the one
	// name is "".
	roots map[string]string

	mu sync.Mutex
	// limits are those of systemd scopes that wait for their first process: see Create.
	limits map[string]vm.Resources
	// scores are the OOM scores' adjustments of processes that are to be placed.
	scores map[string]int64
	// kills are the OOM kills in a pod's group before those of the leaf: see Usage.
	kills map[string]uint64
}

// New finds the host's cgroups. It is FailedPrecondition where the driver cannot work,
// saying why.
func New(cfg Config) (*Cgroups, error) {
	host, err := Inspect()
	if err != nil {
		return nil, err
	}
	if err := host.Usable(cfg.Driver); err != nil {
		return nil, err
	}
	m, err := manager.New(&cgroups.Cgroup{Path: "/", Resources: &cgroups.Resources{SkipDevices: true}})
	if err != nil {
		return nil, fmt.Errorf("find the cgroup mounts: %w", err)
	}
	roots := m.GetPaths()
	// QEMU's devices are libvirt's to restrict: it stays in libvirtd's group there.
	delete(roots, "devices")
	return newCgroups(cfg.Driver, roots), nil
}

func newCgroups(driver string, roots map[string]string) *Cgroups {
	return &Cgroups{driver: driver, roots: roots, limits: map[string]vm.Resources{}, scores: map[string]int64{}, kills: map[string]uint64{}}
}

// Create makes the sandbox's group with its limits, and missing parents without any.
// A systemd scope cannot be empty: there, Create keeps the limits and Place makes the
// scope, so a restart in between needs another Create. Idempotent.
func (c *Cgroups) Create(ctx context.Context, id, parent string, res vm.Resources) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("create the cgroup of %s: %w", id, err)
	}
	g, err := c.group(id, parent, res)
	if err != nil {
		return fmt.Errorf("create the cgroup of %s: %w", id, err)
	}
	c.mu.Lock()
	c.scores[id] = res.OOMScoreAdj
	c.mu.Unlock()
	fresh := !g.exists()
	if c.driver == DriverSystemd && fresh {
		c.mu.Lock()
		c.limits[id] = res
		c.mu.Unlock()
		return nil
	}
	if err := g.set(-1); err != nil {
		if fresh {
			err = errors.Join(err, g.manager.Destroy())
		}
		return fmt.Errorf("create the cgroup of %s under %q: %w", id, parent, err)
	}
	return nil
}

// Place moves a process with all its threads into the group, and gives it the OOM score
// that Create was told. What the process allocated before stays charged to the group it
// comes from. NotFound if there is no group,
// FailedPrecondition if there is no process.
func (c *Cgroups) Place(ctx context.Context, id, parent string, pid int) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("place process %d in the cgroup of %s: %w", pid, id, err)
	}
	c.mu.Lock()
	limits, waits := c.limits[id]
	score := c.scores[id]
	c.mu.Unlock()
	g, err := c.group(id, parent, limits)
	if err != nil {
		return fmt.Errorf("place process %d in the cgroup of %s: %w", pid, id, err)
	}
	switch {
	case g.exists():
		err = g.manager.AddPid("", pid)
	case waits:
		err = g.set(pid)
	default:
		err = errdefs.ErrNotFound
	}
	if err == nil && score != 0 {
		err = adjustOOMScore(pid, score)
	}
	if errors.Is(err, unix.ESRCH) {
		err = fmt.Errorf("%w: %w", err, errdefs.ErrFailedPrecondition)
	}
	if err != nil {
		return fmt.Errorf("place process %d in the cgroup of %s under %q: %w", pid, id, parent, err)
	}
	c.mu.Lock()
	delete(c.limits, id)
	delete(c.scores, id)
	c.mu.Unlock()
	return nil
}

// adjustOOMScore says how readily the kernel kills a process when the node has no memory
// left (proc(5)). A negative score takes CAP_SYS_RESOURCE, which a daemon in a container may
// lack: the process is then killed as readily as any, and its VM runs all the same, as runc
// has it for containers.
func adjustOOMScore(pid int, score int64) error {
	err := os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), strconv.AppendInt(nil, score, 10), 0)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%w: %w", unix.ESRCH, err)
	case score < 0 && errors.Is(err, os.ErrPermission):
		return nil
	}
	return err
}

// group is one sandbox's leaf.
type group struct {
	manager   cgroups.Manager
	resources *cgroups.Resources
	// dir is the leaf in the hierarchy that counts memory: where there is one, all are.
	dir string
}

// group makes the library's manager of a leaf; it touches no group.
func (c *Cgroups) group(id, parent string, res vm.Resources) (group, error) {
	leaf, config, err := locate(c.driver, id, parent)
	if err != nil {
		return group{}, err
	}
	paths := make(map[string]string, len(c.roots))
	for name, root := range c.roots {
		paths[name] = filepath.Join(root, leaf)
	}
	config.Resources = limitsOf(res)
	m, err := manager.NewWithPaths(config, paths)
	if err != nil {
		if errors.Is(err, cgroups.ErrV1NoUnified) {
			err = fmt.Errorf("this host has cgroup v1, and unified resources are for v2: %w", errdefs.ErrFailedPrecondition)
		}
		return group{}, err
	}
	return group{manager: m, resources: config.Resources, dir: m.Path("memory")}, nil
}

func (g group) exists() bool {
	_, err := os.Stat(g.dir)
	return err == nil
}

// set makes the leaf with its limits and, unless pid is -1, moves the process in.
func (g group) set(pid int) error {
	if err := g.manager.Apply(pid); err != nil {
		return err
	}
	err := g.manager.Set(g.resources)
	if errors.Is(err, os.ErrNotExist) {
		// A limit without its file: memsw without swap accounting, for one.
		err = fmt.Errorf("this kernel lacks a limit that is asked for: %w: %w", err, errdefs.ErrFailedPrecondition)
	}
	return err
}
