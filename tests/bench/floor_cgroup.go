// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/manager"

	"github.com/vmlet/vmlet/tests/harness"
)

// cgroupLeaf is a pod's group without limits, in all hierarchies but that of devices.
type cgroupLeaf struct{ manager cgroups.Manager }

func makeCgroup(id string) (cgroupLeaf, error) {
	// Under the same parent as vmlet's: siblings get equal shares of a busy machine.
	all := &cgroups.Cgroup{Path: "/vmlet/floor-" + id, Resources: &cgroups.Resources{SkipDevices: true}}
	m, err := manager.New(all)
	if err != nil {
		return cgroupLeaf{}, err
	}
	where := m.GetPaths()
	delete(where, "devices")
	if m, err = manager.NewWithPaths(all, where); err != nil {
		return cgroupLeaf{}, err
	}
	return cgroupLeaf{m}, m.Apply(-1)
}

// place moves QEMU into the group. Its number is in libvirt's pid file.
func (g cgroupLeaf) place(domain string) error {
	text, err := os.ReadFile(filepath.Join(harness.LibvirtdDir(), "run/qemu", domain+".pid"))
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(text)))
	if err != nil {
		return err
	}
	return g.manager.AddPid("", pid)
}

func (g cgroupLeaf) remove() error { return g.manager.Destroy() }
