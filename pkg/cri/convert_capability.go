// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"slices"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// knownCapabilities are Linux's (capabilities(7)), as of Linux 5.9, the last that added one.
var knownCapabilities = capabilityNames(`CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP
	LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT
	SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE
	AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE`)

// defaultCapabilities are what containerd and Docker leave a container's root.
var defaultCapabilities = capabilityNames(`CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP
	NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE`)

func capabilityNames(list string) []string {
	names := strings.Fields(list)
	for i, name := range names {
		names[i] = "CAP_" + name
	}
	slices.Sort(names)
	return names
}

// capabilities are those that a process has, and those of them that a user other than root
// has as well. Changes are applied as containerd does: "ALL" first, whichever way, then
// what is added by name, then what is dropped. "If a capability is added to
// [...] add_ambient_capabilities [...] then it gets added to all sets".
func capabilities(c *runtimeapi.Capability) (all, ambient []string, err error) {
	add, addAll, err := capabilityList("add_capabilities", c.GetAddCapabilities())
	if err != nil {
		return nil, nil, err
	}
	drop, dropAll, err := capabilityList("drop_capabilities", c.GetDropCapabilities())
	if err != nil {
		return nil, nil, err
	}
	ambient, ambientAll, err := capabilityList("add_ambient_capabilities", c.GetAddAmbientCapabilities())
	if err != nil {
		return nil, nil, err
	}
	if ambientAll {
		return nil, nil, invalid(securityField+"capabilities.add_ambient_capabilities", "ALL has no meaning here")
	}
	all = defaultCapabilities
	if addAll {
		all = knownCapabilities
	}
	if dropAll {
		all = nil
	}
	all = slices.DeleteFunc(slices.Concat(all, add, ambient), func(name string) bool { return slices.Contains(drop, name) })
	slices.Sort(all)
	all = slices.Compact(all)
	ambient = slices.DeleteFunc(ambient, func(name string) bool { return !slices.Contains(all, name) })
	// Never nil, which would be all of them.
	return append([]string{}, all...), ambient, nil
}

// capabilityList writes names as the kernel's sources do, and takes "ALL" out of them.
func capabilityList(field string, list []string) (names []string, all bool, err error) {
	for _, name := range list {
		upper := strings.ToUpper(name)
		if upper == "ALL" {
			all = true
			continue
		}
		full := "CAP_" + strings.TrimPrefix(upper, "CAP_")
		if !slices.Contains(knownCapabilities, full) {
			return nil, false, invalid(securityField+"capabilities."+field, "%q is no capability of Linux", name)
		}
		names = append(names, full)
	}
	return names, all, nil
}
