// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"fmt"
	"path"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/systemd"
)

// ownParent is the parent of the groups of sandboxes that bring none.
const ownParent = "vmlet"

// locate maps a sandbox and its pod's group, as the CRI client names it, to the leaf's path
// below each hierarchy's root, and to what the library's manager has to know of it.
//
// kubelet names the pod's group by its driver: a path for cgroupfs, such as
// /kubepods/burstable/pod<uid>, and for systemd a slice, such as
// kubepods-burstable-pod<uid>.slice, maybe with its path before it.
func locate(driver, id, parent string) (leaf string, config *cgroups.Cgroup, err error) {
	if id == "" || strings.ContainsAny(id, "/\x00") || strings.HasPrefix(id, ".") {
		return "", nil, fmt.Errorf("%q names no sandbox: %w", id, errdefs.ErrInvalidArgument)
	}
	if driver == DriverSystemd {
		return locateScope(id, parent)
	}
	if parent == "" {
		parent = "/" + ownParent
	}
	// A slice's bare name would become a group of that name at the root, outside of the
	// pod's limits.
	if !path.IsAbs(parent) || path.Clean(parent) != parent {
		return "", nil, fmt.Errorf("cgroup parent %q is no clean absolute path, as driver %s takes; is it kubelet's driver? %w",
			parent, driver, errdefs.ErrInvalidArgument)
	}
	leaf = path.Join(parent, "vmlet-"+id)
	return leaf, &cgroups.Cgroup{Path: leaf}, nil
}

func locateScope(id, parent string) (leaf string, config *cgroups.Cgroup, err error) {
	slice := path.Base(parent)
	if parent == "" {
		slice = ownParent + ".slice"
	}
	dir, err := systemd.ExpandSlice(slice)
	if err != nil {
		return "", nil, fmt.Errorf("cgroup parent %q is no slice, as driver %s takes; is it kubelet's driver? %w",
			parent, DriverSystemd, errdefs.ErrInvalidArgument)
	}
	return path.Join(dir, "vmlet-"+id+".scope"),
		&cgroups.Cgroup{Parent: slice, ScopePrefix: "vmlet", Name: id, Systemd: true}, nil
}
