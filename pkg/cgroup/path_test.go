// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func TestLocate(t *testing.T) {
	const id = "0123456789abcdef0123456789abcdef"
	for _, tc := range []struct {
		driver, parent, leaf, slice string
	}{
		{DriverCgroupfs, "/kubepods/burstable/pod7c1d", "/kubepods/burstable/pod7c1d/vmlet-" + id, ""},
		{DriverCgroupfs, "/", "/vmlet-" + id, ""},
		{DriverCgroupfs, "", "/vmlet/vmlet-" + id, ""},
		{DriverCgroupfs, "/test.slice", "/test.slice/vmlet-" + id, ""},
		{
			DriverSystemd, "kubepods-burstable-pod7c1d.slice",
			"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod7c1d.slice/vmlet-" + id + ".scope",
			"kubepods-burstable-pod7c1d.slice",
		},
		{
			DriverSystemd, "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod7c1d.slice",
			"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod7c1d.slice/vmlet-" + id + ".scope",
			"kubepods-burstable-pod7c1d.slice",
		},
		{DriverSystemd, "", "/vmlet.slice/vmlet-" + id + ".scope", "vmlet.slice"},
	} {
		leaf, config, err := locate(tc.driver, id, tc.parent)
		if err != nil {
			t.Errorf("%s %q: %v", tc.driver, tc.parent, err)
			continue
		}
		if leaf != tc.leaf {
			t.Errorf("%s %q: leaf %s, want %s", tc.driver, tc.parent, leaf, tc.leaf)
		}
		if config.Systemd != (tc.driver == DriverSystemd) || config.Parent != tc.slice {
			t.Errorf("%s %q: %+v", tc.driver, tc.parent, config)
		}
	}
}

func TestLocateRefuses(t *testing.T) {
	for _, tc := range []struct{ driver, id, parent, says string }{
		{DriverCgroupfs, "", "", "sandbox"},
		{DriverCgroupfs, "../x", "", "sandbox"},
		{DriverSystemd, "..", "", "sandbox"},
		{DriverCgroupfs, "a", "kubepods-pod7c1d.slice", "kubelet's driver"},
		{DriverCgroupfs, "a", "/kubepods/../../etc", "kubelet's driver"},
		{DriverCgroupfs, "a", "kubepods/pod7c1d", "kubelet's driver"},
		{DriverSystemd, "a", "/kubepods/burstable/pod7c1d", "kubelet's driver"},
		{DriverSystemd, "a", "kube--pods.slice", "kubelet's driver"},
	} {
		leaf, _, err := locate(tc.driver, tc.id, tc.parent)
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%+v: %q, %v", tc, leaf, err)
		}
	}
}
