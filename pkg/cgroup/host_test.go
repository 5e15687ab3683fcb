// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func TestUsable(t *testing.T) {
	v1 := Host{Version: 1, Controllers: []string{"cpu", "cpuacct", "cpuset", "memory", "pids"}}
	v2 := Host{Version: 2, Controllers: []string{"cpu", "io", "memory", "pids"}, Systemd: true}
	with := func(h Host, change func(*Host)) Host {
		change(&h)
		return h
	}
	for name, tc := range map[string]struct {
		host   Host
		driver string
		class  func(error) bool
		says   string
	}{
		"v1":                        {v1, DriverCgroupfs, nil, ""},
		"v2":                        {v2, DriverCgroupfs, nil, ""},
		"v2 with systemd":           {v2, DriverSystemd, nil, ""},
		"systemd that is not there": {v1, DriverSystemd, errdefs.IsFailedPrecondition, "systemd does not run"},
		"no memory controller": {
			with(v2, func(h *Host) { h.Controllers = []string{"cpu", "pids"} }),
			DriverCgroupfs, errdefs.IsFailedPrecondition, "no controller memory",
		},
		"v1 without CPU accounting": {
			with(v1, func(h *Host) { h.Controllers = []string{"cpu", "memory", "pids"} }),
			DriverCgroupfs, errdefs.IsFailedPrecondition, "cpuacct",
		},
		"a mount that is read-only": {with(v2, func(h *Host) { h.ReadOnly = true }), DriverSystemd, errdefs.IsFailedPrecondition, "read-only"},
		"an unknown driver":         {v2, "libvirt", errdefs.IsInvalidArgument, `"libvirt"`},
	} {
		t.Run(name, func(t *testing.T) {
			err := tc.host.Usable(tc.driver)
			if tc.class == nil {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !tc.class(err) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v", err)
			}
		})
	}
}
