// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"slices"
	"strconv"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/vm"
)

// security converts a context that passed checkContainerSecurity. What it says holds for
// the container's command and for what is executed beside it. A container without a
// command is the machine itself, whose init is root: then only users and groups count, for
// what is executed, and nil is root with everything. Seccomp programs are added by
// addSeccomp.
func security(sc *runtimeapi.LinuxContainerSecurityContext, hasCommand bool) (*vm.Security, error) {
	out, err := identity(sc)
	if err != nil {
		return nil, err
	}
	if !hasCommand {
		if isRoot(out) {
			return nil, nil
		}
		return out, nil
	}
	out.ReadonlyRoot, out.NoNewPrivileges = sc.GetReadonlyRootfs(), sc.GetNoNewPrivs()
	if sc.GetPrivileged() { // "All capabilities are added. Sensitive paths [...] are not masked."
		return out, nil
	}
	if out.Capabilities, out.Ambient, err = capabilities(sc.GetCapabilities()); err != nil {
		return nil, err
	}
	for _, paths := range []struct {
		field string
		list  []string
	}{{"masked_paths", sc.GetMaskedPaths()}, {"readonly_paths", sc.GetReadonlyPaths()}} {
		for _, path := range paths.list {
			if err := checkHostPath(securityField+paths.field, path); err != nil {
				return nil, err
			}
		}
	}
	out.MaskedPaths, out.ReadonlyPaths = sc.GetMaskedPaths(), sc.GetReadonlyPaths()
	return out, nil
}

// identity is the user and the groups. IDs have 32 bits, of which the highest means "leave
// it as it is" to the kernel (setresuid(2)).
func identity(sc *runtimeapi.LinuxContainerSecurityContext) (*vm.Security, error) {
	// A colon would be a group's, as in chown(1); run_as_group is for that.
	if name := sc.GetRunAsUsername(); strings.ContainsAny(name, ":/ ") || hasControl(name) {
		return nil, invalid(securityField+"run_as_username", "%q is no name of a user", name)
	}
	out := &vm.Security{
		User:         sc.GetRunAsUsername(),
		StrictGroups: sc.GetSupplementalGroupsPolicy() == runtimeapi.SupplementalGroupsPolicy_Strict,
	}
	for _, id := range []struct {
		field string
		value *runtimeapi.Int64Value
		to    *string
	}{{"run_as_user", sc.GetRunAsUser(), &out.User}, {"run_as_group", sc.GetRunAsGroup(), &out.Group}} {
		if id.value == nil {
			continue
		}
		if !isID(id.value.GetValue()) {
			return nil, invalid(securityField+id.field, "%d is no user's or group's number", id.value.GetValue())
		}
		*id.to = strconv.FormatInt(id.value.GetValue(), 10)
	}
	for _, group := range sc.GetSupplementalGroups() {
		if !isID(group) {
			return nil, invalid(securityField+"supplemental_groups", "%d is no group's number", group)
		}
		out.SupplementalGroups = append(out.SupplementalGroups, uint32(group))
	}
	return out, nil
}

func isID(n int64) bool { return n >= 0 && n < 1<<32-1 }

// isRoot tells whether an identity says no more than root, which kubelets ask for whenever
// nobody asks for another user.
func isRoot(s *vm.Security) bool {
	root := []string{"", "0"}
	return slices.Contains(root, s.User) && slices.Contains(root, s.Group) && len(s.SupplementalGroups) == 0 && !s.StrictGroups
}
