// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/fs2"
	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/pkg/vm"
)

// Usage reads the group's counters; NotFound if there is no group.
//
// OOMKills counts the kernel's kills of processes of the group, whichever group's limit was
// hit, the pod's included: the kernel counts a kill where the victim is. On cgroup v1 it
// counts it there only, so the leaf has to outlive QEMU until it was asked. systemd removes
// a scope with its last process; on v2 the pod's group counts too, and after QEMU's end the
// kills since the last Usage before it are told from there, alone among the counters.
func (c *Cgroups) Usage(ctx context.Context, id, parent string) (vm.CgroupUsage, error) {
	if err := ctx.Err(); err != nil {
		return vm.CgroupUsage{}, fmt.Errorf("usage of the cgroup of %s: %w", id, err)
	}
	g, err := c.group(id, parent, vm.Resources{})
	if err != nil {
		return vm.CgroupUsage{}, fmt.Errorf("usage of the cgroup of %s: %w", id, err)
	}
	usage, err := read(g)
	if gone(err) {
		usage, err = c.lastKills(id, g)
	} else if err == nil {
		c.rememberKills(id, g, usage.OOMKills)
	}
	if gone(err) {
		err = errdefs.ErrNotFound
	}
	if err != nil {
		return vm.CgroupUsage{}, fmt.Errorf("usage of the cgroup of %s under %q: %w", id, parent, err)
	}
	return usage, nil
}

// gone reports whether a file was not there, or its group went while it was open.
func gone(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV)
}

func read(g group) (vm.CgroupUsage, error) {
	stats, err := g.manager.Stats(&cgroups.StatsOptions{Controllers: cgroups.CPU | cgroups.Memory | cgroups.Pids})
	if err != nil {
		return vm.CgroupUsage{}, err
	}
	// Last, since the library takes an absent group for one that used nothing.
	kills, err := g.manager.OOMKillCount()
	if err != nil {
		return vm.CgroupUsage{}, err
	}
	return usageOf(stats, kills, time.Now()), nil
}

// usageOf picks the counters that kubelet's summary is made of. The working set is
// cAdvisor's: usage less the inactive page cache, and not below zero.
func usageOf(s *cgroups.Stats, kills uint64, at time.Time) vm.CgroupUsage {
	m := s.MemoryStats
	// v1's totals include groups below, as all of v2's counters do.
	rss, inactive, faults, major := "total_rss", "total_inactive_file", "total_pgfault", "total_pgmajfault"
	if _, v1 := m.Stats[rss]; !v1 {
		rss, inactive, faults, major = "anon", "inactive_file", "pgfault", "pgmajfault"
	}
	u := vm.CgroupUsage{
		At:          at,
		CPUUsage:    s.CpuStats.CpuUsage.TotalUsage,
		MemoryUsage: m.Usage.Usage,
		RSS:         m.Stats[rss],
		PageFaults:  m.Stats[faults],
		MajorFaults: m.Stats[major],
		MemoryLimit: m.Usage.Limit,
		OOMKills:    kills,
		PIDs:        s.PidsStats.Current,
	}
	u.WorkingSet = u.MemoryUsage - min(u.MemoryUsage, m.Stats[inactive])
	// No limit is the largest number of pages on v1, "max" on v2.
	if u.MemoryLimit > math.MaxInt64/2 {
		u.MemoryLimit = 0
	}
	return u
}

// rememberKills keeps what the pod's group had counted beside the leaf's kills.
func (c *Cgroups) rememberKills(id string, g group, ofLeaf uint64) {
	if ofPod, ok := c.podKills(g); ok {
		c.mu.Lock()
		c.kills[id] = ofPod - min(ofPod, ofLeaf)
		c.mu.Unlock()
	}
}

// lastKills tells the kills of a scope that is gone.
func (c *Cgroups) lastKills(id string, g group) (vm.CgroupUsage, error) {
	c.mu.Lock()
	before, known := c.kills[id]
	c.mu.Unlock()
	ofPod, ok := c.podKills(g)
	if !known || !ok {
		return vm.CgroupUsage{}, errdefs.ErrNotFound
	}
	return vm.CgroupUsage{At: time.Now(), OOMKills: ofPod - min(ofPod, before)}, nil
}

// podKills reads the kills in the pod's group and all below, where that is of use.
func (c *Cgroups) podKills(g group) (kills uint64, ok bool) {
	if _, unified := c.roots[""]; c.driver != DriverSystemd || !unified || len(c.roots) > 1 {
		return 0, false
	}
	kills, err := fs2.OOMKillCount(filepath.Dir(g.dir))
	return kills, err == nil
}
