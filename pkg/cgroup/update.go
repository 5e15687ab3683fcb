// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/pkg/vm"
)

// Update changes the limits of a group that exists, and the OOM scores of what is in it,
// whole or not at all: after an error they are as from says. NotFound if there is no group,
// FailedPrecondition for a memory limit below what is in use. What both leave open stays.
func (c *Cgroups) Update(ctx context.Context, id, parent string, from, to vm.Resources) error {
	if err := c.update(ctx, id, parent, from, to); err != nil {
		return fmt.Errorf("change the limits of the cgroup of %s under %q: %w", id, parent, err)
	}
	return nil
}

func (c *Cgroups) update(ctx context.Context, id, parent string, from, to vm.Resources) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	g, err := c.group(id, parent, to)
	if err != nil {
		return err
	}
	if !g.exists() {
		return errdefs.ErrNotFound
	}
	stats, err := g.manager.Stats(&cgroups.StatsOptions{Controllers: cgroups.Memory})
	if err != nil {
		return err
	}
	if used, limit := unreclaimable(stats.MemoryStats), to.MemoryLimit; limit > 0 && uint64(limit) < used {
		// v1 would try and fail with EBUSY, v2 would kill.
		return fmt.Errorf("a memory limit of %d bytes is below the %d bytes that are in use: %w", limit, used, errdefs.ErrFailedPrecondition)
	}
	cpusets, err := g.cpusets()
	if err != nil {
		return err
	}
	if err := g.manager.Set(g.resources); err != nil {
		return errors.Join(err, g.manager.Set(before(from)), cpusets.restore())
	}
	if to.OOMScoreAdj == from.OOMScoreAdj {
		return nil
	}
	if err := g.adjustOOMScores(to.OOMScoreAdj); err != nil {
		return errors.Join(err, g.manager.Set(before(from)), cpusets.restore(), g.adjustOOMScores(from.OOMScoreAdj))
	}
	return nil
}

// unreclaimable is what a limit must have room for on a host without swap: all but page cache. The
// memory of a guest that has a share is shared with virtiofsd, and counts as shmem.
func unreclaimable(m cgroups.MemoryStats) uint64 {
	if rss, v1 := m.Stats["total_rss"]; v1 {
		return rss + m.Stats["total_shmem"]
	}
	return m.Stats["anon"] + m.Stats["shmem"]
}

// before are limits to go back to: what was open is without a limit, as the kernel has it.
func before(from vm.Resources) *cgroups.Resources {
	res := limitsOf(from)
	if res.Memory == 0 {
		res.Memory = -1
	}
	if res.CpuQuota == 0 {
		res.CpuQuota = -1
	}
	if res.CpuShares == 0 {
		const kernelDefault = 1024 // cpu.shares of a new group
		res.CpuShares, res.CpuWeight = kernelDefault, cgroups.ConvertCPUSharesToCgroupV2Value(kernelDefault)
	}
	return res
}

// files are files with what they held.
type files map[string][]byte

// cpusets keeps which CPUs and memory nodes a group has. An open one has its parent's, and
// only by name can it be given them again.
func (g group) cpusets() (files, error) {
	kept := files{}
	dir := g.manager.Path("cpuset")
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		path := filepath.Join(dir, name)
		value, err := os.ReadFile(path)
		if dir == "" || errors.Is(err, fs.ErrNotExist) {
			continue // a host without the controller
		}
		if err != nil {
			return nil, err
		}
		kept[path] = value
	}
	return kept, nil
}

func (f files) restore() (err error) {
	for path, value := range f {
		err = errors.Join(err, os.WriteFile(path, value, 0))
	}
	return err
}

// adjustOOMScores is for all processes of the group. One that ends meanwhile needs none.
func (g group) adjustOOMScores(score int64) error {
	pids, err := cgroups.GetPids(g.dir)
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if err := adjustOOMScore(pid, score); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}
