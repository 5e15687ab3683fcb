// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/systemd"
	"golang.org/x/sys/unix"
)

// Host is what a host has of cgroups.
type Host struct {
	// Version is 1 or 2. A hybrid host, v1 with an empty v2 beside it, is 1.
	Version int
	// Controllers are those that can be used, such as "cpu" and "memory".
	Controllers []string
	// Systemd is whether systemd runs the host.
	Systemd bool
	// ReadOnly is whether the hierarchy is mounted so that no group can be made.
	ReadOnly bool
}

// Inspect looks at the host. It changes nothing.
func Inspect() (Host, error) {
	h := Host{Version: 1, Systemd: systemd.IsRunningSystemd()}
	mount := "/sys/fs/cgroup"
	if cgroups.IsCgroup2UnifiedMode() {
		h.Version = 2
		data, err := os.ReadFile(mount + "/cgroup.controllers")
		if err != nil {
			return Host{}, fmt.Errorf("inspect cgroup v2: %w", err)
		}
		h.Controllers = strings.Fields(string(data))
	} else {
		mounts, err := cgroups.GetCgroupMounts(true)
		if err != nil {
			return Host{}, fmt.Errorf("inspect cgroup v1: %w", err)
		}
		for _, m := range mounts {
			h.Controllers = append(h.Controllers, m.Subsystems...)
			if slices.Contains(m.Subsystems, "memory") {
				mount = m.Mountpoint
			}
		}
	}
	slices.Sort(h.Controllers)
	h.Controllers = slices.Compact(h.Controllers)
	var st unix.Statfs_t
	if err := unix.Statfs(mount, &st); err != nil {
		return Host{}, fmt.Errorf("inspect cgroups: %s: %w", mount, err)
	}
	h.ReadOnly = st.Flags&unix.ST_RDONLY != 0
	return h, nil
}

// Usable says whether a driver works on the host: nil, or FailedPrecondition with the
// reason and what to do. An unknown driver is InvalidArgument.
func (h Host) Usable(driver string) error {
	if driver != DriverCgroupfs && driver != DriverSystemd {
		return fmt.Errorf("cgroup driver %q: want %s or %s: %w", driver, DriverCgroupfs, DriverSystemd, errdefs.ErrInvalidArgument)
	}
	if driver == DriverSystemd && !h.Systemd {
		return fmt.Errorf("cgroup driver %s: systemd does not run this host; use %s, in kubelet too: %w",
			driver, DriverCgroupfs, errdefs.ErrFailedPrecondition)
	}
	need := []string{"cpu", "memory", "pids"}
	if h.Version == 1 {
		need = append(need, "cpuacct")
	}
	for _, controller := range need {
		if !slices.Contains(h.Controllers, controller) {
			return fmt.Errorf("cgroup v%d has no controller %s: enable it on the kernel's command line or mount it: %w",
				h.Version, controller, errdefs.ErrFailedPrecondition)
		}
	}
	if h.ReadOnly {
		return fmt.Errorf("cgroup v%d is mounted read-only: mount it for writing, in a container with --cgroupns=host: %w",
			h.Version, errdefs.ErrFailedPrecondition)
	}
	return nil
}
